// Beyond the shared conversations: timeouts, and how payloads count at the ends of a match.

import assert from "node:assert/strict";
import test from "node:test";

import { Conversation, Device, PeerLeftError } from "../cloudmatch.js";

const WELCOME = { type: "welcome", device: "a", session: "s", resume: "r", grace: 30, max_payload: 100 };
const MATCHED = { type: "matched", match: 7, peer: "b", distance: 1 };
const ABNORMAL = 1006;

/** A conversation and its clock; `actions` returns its actions since the last call. */
class Clock {
  now = 0;

  constructor(random = () => 1) {
    this.conversation = new Conversation(0, random);
  }

  actions() {
    return this.conversation.actions.splice(0).filter(({ event }) => event?.type !== "state");
  }

  /**
   * Advance to the next deadline; return how long that took and the actions then.
   * @returns {[number, any[]]}
   */
  next() {
    const { deadline } = this.conversation;
    const waited = deadline - this.now;
    this.now = deadline;
    this.conversation.tick(this.now);
    return [waited, this.actions()];
  }

  pass(ms) {
    this.now += ms;
    this.conversation.tick(this.now);
  }

  receive(...frames) {
    for (const frame of frames) this.conversation.onFrame(JSON.stringify(frame), this.now);
    return this.actions();
  }

  drop(code = ABNORMAL) {
    this.conversation.lost(code, this.now);
    return this.actions();
  }
}

/** A clock whose device is in match 7. */
function matched(random) {
  const clock = new Clock(random);
  clock.next();
  clock.receive(WELCOME, MATCHED);
  return clock;
}

const resume = { resume: "r", received: 0, match: 7 };

test("An attempt without a welcome is abandoned after 10 seconds", () => {
  const clock = new Clock();
  assert.deepEqual(clock.next(), [0, [{ connect: {} }]]);
  assert.deepEqual(clock.next(), [10_000, [{ disconnect: 1000 }]]);
  assert.deepEqual(clock.next(), [100, [{ connect: {} }]]);
});

test("A dead connection is abandoned within a third of the grace", () => {
  const clock = matched();
  assert.deepEqual(clock.next(), [5_000, [{ write: { type: "ping" } }]]);
  clock.pass(4_900);
  clock.receive({ type: "pong" });
  assert.deepEqual(clock.next(), [5_000, [{ write: { type: "ping" } }]]);
  clock.pass(1);
  assert.deepEqual(clock.next(), [4_999, [{ disconnect: 1000 }]]);
  assert.deepEqual(clock.next(), [100, [{ connect: resume }]]);
});

const dies = (clock) => {
  const silences = [clock.next()[0], clock.next()[0]];
  clock.next();
  clock.receive(WELCOME);
  return silences;
};

test("After a connection that was dead at once, more patience is had with the next", () => {
  const clock = matched();
  clock.pass(20_000);
  clock.receive({ type: "pong" });
  const silences = [dies(clock), dies(clock), dies(clock)];
  assert.deepEqual(silences, [[5_000, 5_000], [5_000, 5_000], [15_000, 15_000]]);
  clock.pass(40_000);
  clock.receive({ type: "pong" });
  assert.deepEqual([dies(clock), dies(clock)], [[15_000, 15_000], [5_000, 5_000]]);
});

test("After a suspend, the device sends a ping before it abandons its connection", () => {
  const clock = matched();
  clock.pass(3_600_000);
  assert.deepEqual(clock.actions(), [{ write: { type: "ping" } }]);
  assert.equal(clock.conversation.deadline, clock.now + 5_000);
});

const waits = (clock, code, number) =>
  Array.from({ length: number }, () => {
    clock.drop(code);
    return clock.next()[0];
  });

test("Failed attempts are repeated with backoff, up to 5 seconds", () => {
  const clock = new Clock();
  clock.next();
  assert.deepEqual(waits(clock, ABNORMAL, 8), [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
});

test("An overloaded server is given more time", () => {
  const clock = new Clock();
  clock.next();
  assert.deepEqual(waits(clock, 1013, 7), [1000, 2000, 4000, 8000, 16000, 30000, 30000]);
});

test("A connection that outlasts its backoff resets it", () => {
  const clock = matched();
  assert.deepEqual(waits(clock, ABNORMAL, 3), [100, 200, 400]);
  clock.receive(WELCOME);
  clock.pass(300);
  assert.deepEqual(waits(clock, ABNORMAL, 1), [800], "not long enough");
  clock.receive(WELCOME);
  clock.pass(900);
  assert.deepEqual(waits(clock, ABNORMAL, 1), [100]);
});

test("Chance spreads attempts over half of their backoff, and over a second when an edge shuts down", () => {
  for (
    const [code, random, wait] of [[ABNORMAL, 0, 50], [ABNORMAL, 1, 100], [1012, 0, 0], [1001, 0.5, 500]]
  ) {
    const clock = matched(() => random);
    assert.deepEqual(waits(clock, code, 1), [wait]);
  }
});

test("A match expires with the grace, and the next connection starts a new session", async () => {
  const clock = matched();
  const rejected = assert.rejects(clock.conversation.send("one", true), PeerLeftError);
  clock.drop();
  const events = [];
  while (clock.conversation.peer) {
    const [, actions] = clock.next();
    events.push(...actions.filter(({ event }) => event).map(({ event }) => event));
    if (clock.conversation.peer && actions.some(({ connect }) => connect)) clock.drop();
  }
  assert.equal(clock.now, 30_000);
  assert.deepEqual(events, [
    { type: "peerLeft", peer: { id: "b", distance: 1, match: 7 }, reason: "expired", undelivered: ["one"] },
  ]);
  await rejected;
  const [, [{ connect }]] = clock.next();
  assert.deepEqual(connect, {});
});

test("A device that leaves is closed after at most 2 seconds", () => {
  const clock = matched();
  clock.conversation.leave(clock.now);
  assert.deepEqual(clock.actions(), [{ write: { type: "leave" } }]);
  const [waited, actions] = clock.next();
  assert.equal(waited, 2000);
  assert.deepEqual(actions.map(({ event }) => event?.type).filter(Boolean), ["closed"]);
  assert.deepEqual([clock.conversation.state, clock.conversation.deadline], ["closed", Infinity]);
});

test("A move while connecting is sent after the welcome", () => {
  const clock = new Clock();
  clock.next();
  clock.conversation.move(3, 4);
  assert.deepEqual(clock.actions(), []);
  assert.deepEqual(clock.receive(WELCOME), [{ write: { type: "locate", lat: 3, lon: 4 } }]);
});

test("A missing number is reported as a gap", () => {
  const clock = matched();
  const actions = clock.receive({ type: "message", from: "b", n: 3, text: "three" });
  assert.deepEqual(actions, [{ event: { type: "gap", first: 1, last: 2, reason: "missing" } }]);
});

test("Payloads taken within 20 ms are acknowledged together", () => {
  const clock = matched();
  clock.receive(...[1, 2].map((n) => ({ type: "message", from: "b", n, text: "" })));
  clock.conversation.receive(clock.now);
  clock.pass(15);
  clock.conversation.receive(clock.now);
  assert.deepEqual(clock.next(), [5, [{ write: { type: "ack", received: 2, match: 7 } }]]);
});

const message = (n) => ({ type: "message", from: "b", n, text: `${n}` });
const take = ({ conversation, now }, count) => {
  for (let n = 0; n < count; n++) conversation.receive(now);
};

test("The sixteenth payload that an application takes is acknowledged at once", () => {
  const clock = matched();
  clock.receive(...Array.from({ length: 17 }, (_, i) => message(i + 1)));
  take(clock, 15);
  assert.deepEqual(clock.actions(), []);
  take(clock, 1);
  assert.deepEqual(clock.actions(), [{ write: { type: "ack", received: 16, match: 7 } }]);
});

test("Payloads of an ended match that are taken late do not count in the next", async () => {
  const clock = matched();
  clock.receive(message(1), message(2), { type: "peer_left", peer: "b", reason: "left" });
  clock.receive({ type: "waiting", since: 1 }, { ...MATCHED, match: 8 }, message(1));
  take(clock, 2);
  assert.equal(clock.conversation.deadline, clock.now + 5_000, "no ack is due");
  assert.equal(await clock.conversation.receive(clock.now), "1");
  assert.deepEqual(clock.next(), [20, [{ write: { type: "ack", received: 1, match: 8 } }]]);
});

test("A device without a match resumes with nothing received", () => {
  const clock = matched();
  clock.receive(message(1), { type: "peer_left", peer: "b", reason: "left" }, { type: "waiting", since: 1 });
  clock.drop();
  const [, [{ connect }]] = clock.next();
  assert.deepEqual(connect, { resume: "r", received: 0, match: undefined });
});

test("Binary payloads repeated by a second matched do not arrive twice", async () => {
  const clock = matched();
  clock.conversation.onFrame(Uint8Array.of(1), clock.now);
  clock.drop();
  clock.next();
  clock.receive(WELCOME, MATCHED);
  clock.conversation.onFrame(Uint8Array.of(1), clock.now);
  clock.conversation.onFrame(Uint8Array.of(2), clock.now);
  assert.deepEqual(await clock.conversation.receive(clock.now), Uint8Array.of(1));
  assert.deepEqual(await clock.conversation.receive(clock.now), Uint8Array.of(2));
});

test("After a resume payloads are counted as the server counts, even if it knows less than it did", async () => {
  const clock = matched();
  for (const text of ["one", "two"]) clock.conversation.send(text, true);
  clock.receive({ type: "ack", delivered: 2 });
  clock.drop();
  clock.next();
  clock.receive(WELCOME, { ...MATCHED, type: "resumed", received: 0 });
  const sent = clock.conversation.send("three", true);
  clock.receive({ type: "ack", delivered: 1 });
  await sent;
});

test("A device is closed by 1000 only after it has left", () => {
  const clock = matched();
  clock.drop(1000);
  assert.equal(clock.conversation.state, "connecting");
  assert.deepEqual(clock.next(), [100, [{ connect: resume }]]);
});

test("A device that an abandoned attempt of its own may have replaced tries once more", () => {
  const clock = matched();
  clock.drop();
  clock.next();
  clock.drop(); // nobody knows whether the server has taken this attempt
  clock.next();
  clock.receive(WELCOME);
  clock.drop(4001);
  assert.deepEqual(clock.next(), [1_000, [{ connect: resume }]]);
  clock.receive(WELCOME);
  const events = clock.drop(4001).flatMap(({ event }) => event?.type === "closed" ? [event.code] : []);
  assert.deepEqual(events, [4001]);
});

test("A device that can get another token returns when one has expired", () => {
  const final = matched();
  const closed = final.drop(4003).flatMap(({ event }) => event?.type === "closed" ? [event.code] : []);
  assert.deepEqual(closed, [4003]);
  const clock = matched();
  clock.conversation.renews = true;
  clock.drop(4003);
  const [, actions] = clock.next();
  assert.deepEqual(actions, [{ connect: resume }]);
});

test("An attempt that was abandoned long ago excuses no rival", () => {
  const clock = new Clock();
  clock.next();
  clock.drop();
  clock.next();
  clock.receive(WELCOME, MATCHED);
  clock.pass(60_000);
  clock.drop(4001);
  assert.equal(clock.conversation.state, "closed");
});

test("A device leaves a match again, however the server repeats it", () => {
  for (const frame of [MATCHED, { ...MATCHED, type: "resumed", received: 0 }]) {
    const clock = matched();
    clock.conversation.unmatch();
    clock.drop();
    assert.deepEqual(clock.next()[1], [{ connect: resume }]);
    assert.deepEqual(clock.receive(WELCOME, frame), [{ write: { type: "unmatch" } }]);
    assert.equal(clock.conversation.peer, null);
  }
});

test("A socket that is closing is not written to", async () => {
  const written = [];
  /** @type {any} */
  let socket;
  class Closing {
    readyState = 1;
    constructor() {
      socket = this;
    }
    send(frame) {
      written.push([this.readyState, JSON.parse(frame).type]);
    }
    close() {}
  }
  const device = new Device("ws://127.0.0.1/", { id: "a", lat: 0, lon: 0, WebSocket: Closing });
  while (!socket) await new Promise(setImmediate); // a timer makes it
  socket.onopen();
  socket.onmessage({ data: JSON.stringify(WELCOME) });
  device.move(1, 2);
  socket.readyState = 2;
  const left = device.leave();
  socket.onclose({ code: 1000 });
  await left;
  assert.deepEqual(written, [[1, "locate"]]);
});

const FULL = { status: 503, code: "edge_full", detail: "full: 2 of 2 devices", retryAfter: 5_000 };

test("A full server is left alone for as long as it asks, and then for ever longer", () => {
  const clock = new Clock();
  for (const expected of [7_500, 7_500, 7_500, 8_000, 16_000, 30_000, 30_000]) {
    clock.next(); // connects
    clock.conversation.unavailable(FULL, clock.now);
    const { code, detail } = FULL;
    assert.deepEqual(clock.actions(), [{ event: { type: "error", code, detail } }]);
    assert.equal(clock.conversation.deadline - clock.now, expected);
    clock.now = clock.conversation.deadline;
  }
});

test("Beyond a quota a device waits for as long as the server asks, spread, and goes on trying", () => {
  const why = {
    status: 429,
    code: "rate_limited",
    detail: "this id has connected too often",
    retryAfter: 2_000,
  };
  for (const [chance, expected] of [[0, 2_000], [1, 3_000]]) {
    const clock = new Clock(() => chance);
    for (let attempt = 0; attempt < 5; attempt++) {
      clock.next(); // connects
      clock.conversation.unavailable(why, clock.now);
      clock.actions();
      assert.equal(clock.conversation.deadline - clock.now, expected);
      clock.now = clock.conversation.deadline;
    }
  }
});

test("Another edge is tried at once", () => {
  const clock = new Clock();
  clock.next();
  clock.conversation.unavailable(FULL, clock.now, true);
  assert.equal(clock.conversation.deadline, clock.now);
  clock.next();
  clock.conversation.lost(ABNORMAL, clock.now, true);
  assert.equal(clock.conversation.deadline, clock.now);
  assert.equal(clock.conversation.state, "connecting");
});

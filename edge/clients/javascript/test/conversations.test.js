// The conversations shared by the server and all SDKs, run against `Conversation`, without socket and clock.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { Conversation, PayloadRefusedError, PeerLeftError } from "../cloudmatch.js";

const CONVERSATIONS = JSON.parse(
  readFileSync(new URL("../../../conformance/conversations.json", import.meta.url), "utf8"),
);
const BREAK = 1006; // the close code of a connection that broke
const OUTCOMES = ["delivered", "undelivered", "refused"]; // events that are promises in this SDK

// Payloads, frames and queries in the form of the file.
const base64 = (data) => Buffer.from(data).toString("base64");
const bytes = (binary) => new Uint8Array(Buffer.from(binary, "base64"));
const whole = (text) => (typeof text === "object" ? text.repeat.repeat(text.times) : text);
const shared = (payload) => (typeof payload === "string" ? { text: payload } : { binary: base64(payload) });
const json = (value) => JSON.parse(JSON.stringify(value));
const frameOf = (write) => (write instanceof Uint8Array ? { binary: base64(write) } : json(write));
const query = (fields) =>
  Object.fromEntries(Object.entries(json(fields)).map(([key, value]) => [key, `${value}`]));
const fields = {
  waiting: () => ({}),
  matched: ({ peer: { id, distance, match } }) => ({ peer: id, distance, match }),
  resumed: (event) => fields.matched(event),
  peerAway: ({ peer }) => ({ peer: peer.id }),
  peerBack: ({ peer }) => ({ peer: peer.id }),
  peerLeft: ({ peer, reason, undelivered }) => ({
    peer: peer.id,
    reason,
    undelivered: undelivered.map(shared),
  }),
  gap: ({ first, last, reason }) => ({ from: first, to: last, reason }),
  error: ({ code }) => ({ code }),
  tokenExpires: ({ seconds }) => ({ in: seconds }),
  closed: ({ code, undelivered }) => ({ code, undelivered: undelivered.map(shared) }),
};
const eventOf = (event) => ({ type: snake(event.type), ...fields[event.type](event) });
const snake = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** Wait until callbacks of settled promises have run. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

/** One conversation: the SDK's output that no step has expected yet. */
class Play {
  now = 1_000_000;
  connects = [];
  frames = [];
  events = [];
  outcomes = [];
  payloads = [];
  sends = 0;

  constructor() {
    this.conversation = new Conversation(this.now, () => 0.5);
    this.conversation.tick(this.now);
    this.perform();
  }

  perform() {
    for (const { connect, write, event } of this.conversation.actions.splice(0)) {
      if (connect) this.connects.push(query(connect));
      else if (write) this.frames.push(frameOf(write));
      else if (event && event.type !== "state") this.events.push(eventOf(event));
    }
  }

  /** Advance to the deadline of the SDK. */
  wait() {
    assert.ok(this.conversation.deadline < Infinity, "nothing is due");
    this.now = Math.max(this.now, this.conversation.deadline);
    this.conversation.tick(this.now);
    this.perform();
  }

  /** Perform a cause: a call of the application, or a silence. */
  act(cause) {
    const [[name, value]] = Object.entries(cause);
    this[name](value);
    this.perform();
  }

  send({ text, binary, receipt = false }) {
    const send = ++this.sends;
    const done = this.conversation.send(text === undefined ? bytes(binary) : whole(text), receipt);
    if (!receipt) return;
    done.then(
      () => this.outcomes.push({ type: "delivered", send }),
      (error) => this.outcomes.push({ send, ...this.outcome(error) }),
    );
  }

  outcome(error) {
    if (error instanceof PayloadRefusedError) return { type: "refused", code: error.code };
    return { type: "undelivered", reason: error instanceof PeerLeftError ? error.reason : "closed" };
  }

  take(count) {
    for (let n = 0; n < count; n++) {
      this.conversation.receive(this.now).then(
        (payload) => this.payloads.push({ type: "payload", ...shared(payload) }),
        () => {}, // none arrived
      );
    }
  }

  silence(seconds) {
    this.now += 1000 * seconds;
    this.conversation.tick(this.now);
  }

  unmatch() {
    this.conversation.unmatch();
  }

  locate([lat, lon]) {
    this.conversation.move(lat, lon);
  }

  token(token) {
    this.conversation.renew(token);
  }

  leave() {
    this.conversation.leave(this.now);
  }

  // -- the steps

  connectStep(wanted) {
    while (!this.connects.length) this.wait();
    const made = this.connects.shift();
    if (!("lat" in wanted)) {
      delete made.lat;
      delete made.lon;
    }
    assert.deepEqual(made, query(wanted));
  }

  serverStep(frame) {
    this.conversation.onFrame("binary" in frame ? bytes(frame.binary) : JSON.stringify(frame), this.now);
    this.perform();
  }

  clientStep(frame, { cause, times = 1 }) {
    const wanted = "text" in frame ? { ...frame, text: whole(frame.text) } : frame;
    for (let n = 0; n < times; n++) {
      if (cause !== "server") this.act(cause);
      if (!this.frames.length) this.wait(); // an ack may come later
      assert.deepEqual(this.frames.shift(), wanted);
    }
  }

  callStep(call) {
    assert.deepEqual(this.frames, []);
    this.act(call);
    assert.deepEqual(this.frames, []);
  }

  dropStep(code) {
    this.conversation.lost(code ?? BREAK, this.now);
    this.perform();
  }

  async eventStep(event) {
    await settled();
    assert.deepEqual((OUTCOMES.includes(event.type) ? this.outcomes : this.events).shift(), event);
  }
}

for (const { name, only, steps } of CONVERSATIONS) {
  if (only === "server") continue;
  test(name, async () => {
    const play = new Play();
    const payloads = []; // those that could be taken, whether or not the application took them
    for (const step of steps) {
      const [kind] = Object.keys(step);
      if (step.event?.type === "payload") payloads.push(step.event);
      else await play[`${kind}Step`](step[kind], step);
    }
    const { connects, frames, events, outcomes } = play;
    play.take(payloads.length + 1);
    await settled();
    assert.deepEqual(play.payloads, payloads);
    assert.deepEqual({ connects, frames, events, outcomes }, {
      connects: [],
      frames: [],
      events: [],
      outcomes: [],
    });
  });
}

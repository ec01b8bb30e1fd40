// Two conversations joined by a minimal server, over connections that break anywhere: every payload arrives once
// and in order, both ways.

import assert from "node:assert/strict";
import test from "node:test";

import { Conversation } from "../cloudmatch.js";

const SEEDS = 300;
const PAYLOADS = 60; // each way
const ABNORMAL = 1006;

/** Random numbers from 0 to 1 that a seed determines (mulberry32). */
function chance(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const payloadOf = (who, n) => (n % 3 ? `${who}${n}` : new TextEncoder().encode(`${who}${n}`));
const read = (payload) => (typeof payload === "string" ? payload : new TextDecoder().decode(payload));

/** A device, its connection (frames in flight up and down), and the server's state of it. */
class Side {
  /** @type {Side} */
  peer;
  up = [];
  down = [];
  connected = false;
  started = false;
  drops = 0;
  sent = 0;
  taken = 0;
  received = [];
  receipts = [];
  payloads = []; // the server's: all payloads it received from this device
  counted = 0; // how many of them arrived on this connection, or before it
  delivered = 0; // how many of the peer's payloads this device has acknowledged
  written = 0; // how many of them were written to its connection, or before it

  constructor(who, random) {
    this.who = who;
    this.random = random;
    this.conversation = new Conversation(0, random);
  }

  get maySend() {
    return this.conversation.peer && this.sent < PAYLOADS;
  }

  get mayWrite() {
    return this.connected && this.written < this.peer.payloads.length;
  }

  /** Tick if due, and perform the actions of the conversation. */
  turn(now) {
    if (this.conversation.deadline <= now) this.conversation.tick(now);
    for (const { connect, write, disconnect } of this.conversation.actions.splice(0)) {
      if (connect) this.connect(connect);
      else if (write) this.up.push(write);
      else if (disconnect) this.drop(now);
    }
  }

  connect({ received = 0 }) {
    this.connected = true;
    this.down.push({
      type: "welcome",
      device: this.who,
      session: "s",
      resume: "r",
      grace: 1e9,
      max_payload: 1000,
    });
    if (this.started) {
      this.delivered = Math.max(this.delivered, received);
      this.written = received;
      this.counted = this.peer.delivered;
      this.down.push({ type: "resumed", match: 1, peer: this.peer.who, distance: 0, received: this.counted });
    } else {
      this.down.push({ type: "waiting", since: 0 }, {
        type: "matched",
        match: 1,
        peer: this.peer.who,
        distance: 0,
      });
    }
    this.started = true;
  }

  /** Break the connection; some of the frames on their way up still arrive. */
  drop(now) {
    if (!this.connected) return;
    const arrive = Math.floor(this.random() * (this.up.length + 1));
    for (let n = 0; n < arrive; n++) this.serve();
    this.up = [];
    this.down = [];
    this.connected = false;
    this.drops++;
    this.conversation.lost(ABNORMAL, now);
  }

  /** Let the server process one frame. */
  serve() {
    const frame = this.up.shift();
    if (frame.type === "ack") {
      this.delivered = Math.max(this.delivered, frame.received);
      if (this.peer.connected) this.peer.down.push({ type: "ack", delivered: this.delivered });
    } else if (frame.type === "ping") {
      this.down.push({ type: "pong" });
    } else if (++this.counted > this.payloads.length) {
      this.payloads.push(frame.text ?? frame); // otherwise it is a repeat
    }
  }

  /** Let the server write the next of the peer's payloads. */
  writeNext() {
    const payload = this.peer.payloads[this.written++];
    const text = { type: "message", from: this.peer.who, n: this.written, text: payload };
    this.down.push(typeof payload === "string" ? text : payload);
  }

  receiveFrame(now) {
    const frame = this.down.shift();
    this.conversation.onFrame(frame instanceof Uint8Array ? frame : JSON.stringify(frame), now);
  }

  send() {
    const n = ++this.sent;
    const receipt = this.random() < 0.3;
    const done = this.conversation.send(payloadOf(this.who, n), receipt);
    if (receipt) this.receipts.push(done);
  }

  take(now) {
    this.taken++;
    this.conversation.receive(now).then((payload) => this.received.push(read(payload)));
  }
}

/** Choose random steps until every payload was sent and taken. */
function storm(sides, random) {
  const fragility = random() * 0.1;
  let now = 0;
  while (sides.some(({ sent, taken }) => sent + taken < 2 * PAYLOADS)) {
    const side = sides[Math.floor(random() * 2)];
    const dice = random();
    if (dice < fragility) side.drop(now);
    else if (dice < 0.3 && side.up.length) side.serve();
    else if (dice < 0.5 && side.mayWrite) side.writeNext();
    else if (dice < 0.7 && side.down.length) side.receiveFrame(now);
    else if (dice < 0.8 && side.maySend) side.send();
    else if (dice < 0.9 && side.taken < PAYLOADS) side.take(now);
    else now += 100 * random();
    for (const each of sides) each.turn(now);
  }
  return now;
}

/** Let everything arrive without further breaks. */
function calm(sides, now) {
  const busy = ({ up, down, mayWrite }) => up.length || down.length || mayWrite;
  for (const end = now + 60_000; now < end; now += 100) {
    for (const side of sides) {
      while (side.up.length) side.serve();
      while (side.mayWrite) side.writeNext();
      while (side.down.length) side.receiveFrame(now);
      side.turn(now);
    }
  }
  assert.ok(!sides.some(busy));
}

test(
  `Every payload arrives once and in order, whatever breaks (${SEEDS} seeds)`,
  { timeout: 60_000 },
  async () => {
    let drops = 0;
    for (let seed = 1; seed <= SEEDS; seed++) {
      const random = chance(seed);
      const sides = ["a", "b"].map((who) => new Side(who, random));
      [sides[0].peer, sides[1].peer] = [sides[1], sides[0]];
      calm(sides, storm(sides, random));
      await Promise.all(sides.flatMap(({ receipts }) => receipts));
      for (const { who, received, peer } of sides) {
        const all = Array.from({ length: PAYLOADS }, (_, i) => `${peer.who}${i + 1}`);
        assert.deepEqual(received, all, `seed ${seed}, device ${who}`);
      }
      drops += sides[0].drops + sides[1].drops;
    }
    assert.ok(drops > SEEDS * 10, `only ${drops} connections broke`);
  },
);

// Two conversations joined by a server of a few lines, over connections that break anywhere: whatever is sent
// arrives once and in order, both ways.

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

/** A device, its connection (frames on their way up and down), and what the server knows of it. */
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
  heard = [];
  receipts = [];
  payloads = []; // the server's: all that it took of this device in the match
  counted = 0; // how many of them have come on this connection, or before it
  inHands = 0; // how many of the peer's payloads this device has acknowledged
  shown = 0; // how many of them were written to its connection, or before it

  constructor(who, random) {
    this.who = who;
    this.random = random;
    this.conversation = new Conversation(0, random);
  }

  get maySend() {
    return this.conversation.peer && this.sent < PAYLOADS;
  }

  get mayShow() {
    return this.connected && this.shown < this.peer.payloads.length;
  }

  /** Do what is due, and what the conversation wants. */
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
      this.inHands = Math.max(this.inHands, received);
      this.shown = received;
      this.counted = this.peer.inHands;
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

  /** The connection breaks; what was on its way up may still arrive, in part. */
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

  /** The server takes one frame. */
  serve() {
    const frame = this.up.shift();
    if (frame.type === "ack") {
      this.inHands = Math.max(this.inHands, frame.received);
      if (this.peer.connected) this.peer.down.push({ type: "ack", delivered: this.inHands });
    } else if (frame.type === "ping") {
      this.down.push({ type: "pong" });
    } else if (++this.counted > this.payloads.length) {
      this.payloads.push(frame.text ?? frame); // else it is sent again, and known
    }
  }

  /** The server shows the device one more of its peer's payloads. */
  show() {
    const payload = this.peer.payloads[this.shown++];
    const text = { type: "message", from: this.peer.who, n: this.shown, text: payload };
    this.down.push(typeof payload === "string" ? text : payload);
  }

  hear(now) {
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
    this.conversation.receive(now).then((payload) => this.heard.push(read(payload)));
  }
}

/** Let chance choose what happens next, until all was sent and taken. */
function storm(sides, random) {
  const fragility = random() * 0.1;
  let now = 0;
  while (sides.some(({ sent, taken }) => sent + taken < 2 * PAYLOADS)) {
    const side = sides[Math.floor(random() * 2)];
    const dice = random();
    if (dice < fragility) side.drop(now);
    else if (dice < 0.3 && side.up.length) side.serve();
    else if (dice < 0.5 && side.mayShow) side.show();
    else if (dice < 0.7 && side.down.length) side.hear(now);
    else if (dice < 0.8 && side.maySend) side.send();
    else if (dice < 0.9 && side.taken < PAYLOADS) side.take(now);
    else now += 100 * random();
    for (const each of sides) each.turn(now);
  }
  return now;
}

/** Nothing breaks any more: let all arrive. */
function calm(sides, now) {
  const busy = ({ up, down, mayShow }) => up.length || down.length || mayShow;
  for (const end = now + 60_000; now < end; now += 100) {
    for (const side of sides) {
      while (side.up.length) side.serve();
      while (side.mayShow) side.show();
      while (side.down.length) side.hear(now);
      side.turn(now);
    }
  }
  assert.ok(!sides.some(busy));
}

test(`Whatever breaks, all arrives once and in order (${SEEDS} courses)`, { timeout: 60_000 }, async () => {
  let drops = 0;
  for (let seed = 1; seed <= SEEDS; seed++) {
    const random = chance(seed);
    const sides = ["a", "b"].map((who) => new Side(who, random));
    [sides[0].peer, sides[1].peer] = [sides[1], sides[0]];
    calm(sides, storm(sides, random));
    await Promise.all(sides.flatMap(({ receipts }) => receipts));
    for (const { who, heard, peer } of sides) {
      const all = Array.from({ length: PAYLOADS }, (_, i) => `${peer.who}${i + 1}`);
      assert.deepEqual(heard, all, `seed ${seed}, device ${who}`);
    }
    drops += sides[0].drops + sides[1].drops;
  }
  assert.ok(drops > SEEDS * 10, `only ${drops} connections broke`);
});

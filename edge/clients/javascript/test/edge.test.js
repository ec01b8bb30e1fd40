// Devices on two real edges, whose URLs are in the variable EDGES, separated by a comma.

import assert from "node:assert/strict";
import test from "node:test";

import {
  connect,
  Device,
  NotMatchedError,
  PeerLeftError,
  RefusedError,
  ReplacedError,
} from "../cloudmatch.js";
import { WebSocket } from "./websocket.js";

const EDGES = process.env.EDGES?.split(",");
const options = { skip: EDGES ? false : "the variable EDGES is not set", timeout: 20_000 };
let apps = 0;

/** Return a function that connects devices in an app of the test's own. */
function inOwnApp(context) {
  const app = `js-${process.pid}-${++apps}`;
  let number = 0;
  return (id, more = {}) => {
    const url = EDGES[number++ % EDGES.length];
    const device = connect(url, { id, lat: 1, lon: 1 + number / 10, app, WebSocket, ...more });
    context.after(() => device.close());
    return device;
  };
}

/** @returns {Promise<[Device, Device, (id: string, more?: object) => Device]>} */
async function pair(context) {
  const device = inOwnApp(context);
  const [a, c] = [device("a"), device("c")];
  await Promise.all([a.matched(), c.matched()]);
  return [a, c, device];
}

/** Resolve with the next event of a type. */
const next = (device, type) =>
  new Promise((resolve) => device.addEventListener(type, resolve, { once: true }));

test("Two devices on two edges match and exchange all kinds of text", options, async (context) => {
  const [a, c] = await pair(context);
  assert.equal(a.peer.id, "c");
  assert.equal(c.peer.id, "a");
  assert.equal(a.peer.match, c.peer.match);
  assert.ok(a.peer.distance > 10_000 && a.peer.distance < 12_000, `${a.peer.distance} m`);
  assert.deepEqual([a.state, c.state], ["matched", "matched"]);
  const texts = ["ciao", "ciào", "", "漢字 😀", '\0 "\\\n', "x".repeat(262144), "é".repeat(131072)];
  const sent = Promise.all(texts.map((text) => a.send(text)));
  for (const text of texts) assert.equal(await c.receive(), text);
  await sent;
  await a.send("half a character: \ud83d");
  assert.equal(await c.receive(), "half a character: \ufffd");
  await c.send("ciao ciao");
  assert.equal(await a.receive(), "ciao ciao");
});

test("Binary payloads arrive byte for byte from any kind of buffer", options, async (context) => {
  const [a, c] = await pair(context);
  const all = Uint8Array.from({ length: 256 }, (_, i) => i);
  await a.send(all);
  await a.send(all.buffer);
  await a.send(all.subarray(10, 20));
  await a.send(new Uint16Array([1, 2]));
  await a.send(new Uint8Array());
  all.fill(0); // payloads were copied when they were sent
  const same = Uint8Array.from({ length: 256 }, (_, i) => i);
  for (const expected of [same, same, same.subarray(10, 20), Uint8Array.of(1, 0, 2, 0), new Uint8Array()]) {
    assert.deepEqual(await c.receive(), expected);
  }
});

test("A receipt arrives when the peer has taken the payload, text or binary", options, async (context) => {
  const [a, c] = await pair(context);
  const receipts = ["one", Uint8Array.of(2)].map((payload) => a.send(payload, { receipt: true }));
  assert.deepEqual([await c.receive(), await c.receive()], ["one", Uint8Array.of(2)]);
  await Promise.all(receipts);
});

test("A peer that takes nothing stops the sender, and no payload is lost", options, async (context) => {
  const [a, c] = await pair(context);
  let inFlight = 0;
  const sends = Array.from({ length: 2000 }, async (_, n) => {
    await a.send(`${n}`);
    inFlight++;
  });
  await c.send("I am not listening");
  assert.equal(await a.receive(), "I am not listening");
  assert.equal(inFlight, 128);
  for (let n = 0; n < 2000; n++) assert.equal(await c.receive(), `${n}`);
  await Promise.all(sends);
});

test("A device whose peer leaves gets the reason and its undelivered payloads", options, async (context) => {
  const [a, c] = await pair(context);
  const left = next(c, "peerLeft");
  const rejected = assert.rejects(c.send("stay", { receipt: true }), PeerLeftError);
  await a.leave();
  const { peer, reason, undelivered } = await left;
  assert.deepEqual([peer.id, reason, undelivered], ["a", "left", ["stay"]]);
  await rejected;
  assert.deepEqual([a.state, c.peer], ["closed", null]);
  await assert.rejects(c.send("anybody?"), NotMatchedError);
});

test("A device that leaves a match is free for another, and so is its peer", options, async (context) => {
  const [a, c, device] = await pair(context);
  const left = next(c, "peerLeft");
  a.unmatch();
  assert.equal(a.peer, null);
  assert.equal((await left).reason, "unmatched");
  const e = device("e");
  const { id } = await e.matched();
  const other = { a, c }[id];
  assert.equal((await other.matched()).id, "e");
  await e.send("ciao", { receipt: false });
  assert.equal(await other.receive(), "ciao");
});

test("A device that moves into reach is matched", options, async (context) => {
  const device = inOwnApp(context);
  const [a, c] = [device("a"), device("c", { lat: 60 })];
  await Promise.all([next(a, "waiting"), next(c, "waiting")]);
  c.move(1, 1);
  assert.equal((await a.matched()).id, "c");
});

test("Iteration ends when the application leaves, after the payloads received", options, async (context) => {
  const [a, c] = await pair(context);
  const listening = (async () => {
    const payloads = [];
    for await (const payload of c) payloads.push(payload);
    return payloads;
  })();
  await a.send("one");
  await a.send("two", { receipt: true });
  await c.leave();
  assert.deepEqual(await listening, ["one", "two"]);
});

test("A newer connection with the same id replaces the older", options, async (context) => {
  const device = inOwnApp(context);
  const older = device("a");
  await next(older, "waiting");
  const ended = next(older, "closed");
  device("a");
  await assert.rejects(older.receive(), ReplacedError);
  assert.equal((await ended).code, 4001);
});

test("A bad parameter closes the device with the server's error", options, async (context) => {
  const device = inOwnApp(context)("a", { lat: 91 });
  await assert.rejects(device.matched(), (error) => {
    assert.ok(error instanceof RefusedError);
    assert.deepEqual([error.status, error.code, error.parameter], [400, "bad_parameter", "lat"]);
    return true;
  });
  assert.equal(device.state, "closed");
});

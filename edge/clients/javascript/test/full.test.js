// Devices on a full edge that accepts two, and on another one; their URLs are in the variable EDGES.

import assert from "node:assert/strict";
import test from "node:test";

import { connect } from "../cloudmatch.js";
import { WebSocket } from "./websocket.js";

const EDGES = process.env.EDGES?.split(",");
const options = { skip: EDGES ? false : "the variable EDGES is not set", timeout: 30_000 };

/** Return a function that connects a device to these edges. */
const inOwnApp = (context, app) => (id, url) => {
  const device = connect(url, { id, lat: 1, lon: 1, app, WebSocket });
  context.after(() => device.close());
  return device;
};
const connected = (device) => new Promise((resolve) => device.on("waiting", resolve));

test("A device that a full edge refuses says why and connects to the next one", options, async (context) => {
  const [full, other] = EDGES;
  const device = inOwnApp(context, "elsewhere");
  const [a, b] = [device("a", full), device("b", full)];
  await Promise.all([a.matched(), b.matched()]);
  const c = device("c", [full, other]);
  const errors = [];
  c.on("error", ({ code, detail }) => errors.push({ code, detail }));
  await connected(c);
  const detail = "full: 2 of 2 devices; try again later, or another edge";
  assert.deepEqual(errors, [{ code: "edge_full", detail }]);
  const d = device("d", other);
  assert.equal((await c.matched()).id, "d");
  await d.matched();
  await d.send("ciao");
  assert.equal(await c.receive(), "ciao");
});

test("A device of a full edge is accepted when another has left", options, async (context) => {
  const device = inOwnApp(context, "later");
  const [a, b] = [device("a", EDGES[0]), device("b", EDGES[0])];
  await Promise.all([a.matched(), b.matched()]);
  const c = device("c", EDGES[0]);
  await new Promise((resolve) => c.on("error", resolve));
  await a.leave();
  assert.equal((await c.matched()).id, "b");
});

test("A device whose first edge does not exist connects to the second", options, async (context) => {
  const device = inOwnApp(context, "nowhere");
  await connected(device("a", ["http://127.0.0.1:1", EDGES[1]]));
});

test("At least one URL is required", () => {
  assert.throws(() => connect([], { id: "a", lat: 1, lon: 1, WebSocket }), /at least one/);
});

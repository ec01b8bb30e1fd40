// Devices with tokens on a real edge that asks for them: its URL is in the variable EDGE, tokens in TOKENS.

import assert from "node:assert/strict";
import test from "node:test";

import { connect, RefusedError } from "../cloudmatch.js";
import { WebSocket } from "./websocket.js";

const { EDGE, TOKENS } = process.env;
const options = { skip: EDGE ? false : "the variable EDGE is not set", timeout: 20_000 };
const place = { id: "js", lat: 1, lon: 1, app: "js", WebSocket };

test("A device goes on with another token on the same connection", options, async () => {
  const tokens = JSON.parse(TOKENS);
  const device = connect(EDGE, { ...place, token: async () => tokens.shift() });
  const states = [];
  device.on("state", ({ state }) => states.push(state));
  const { seconds } = await new Promise((resolve) => device.on("tokenExpires", resolve));
  assert.ok(seconds <= 60);
  while (tokens.length) await new Promise((resolve) => setTimeout(resolve, 20));
  await device.leave();
  assert.deepEqual(states, ["waiting", "closed"]);
});

test("A token that is refused twice is final, and the error names the reason", options, async () => {
  let asked = 0;
  const device = connect(EDGE, { ...place, token: () => `no.token.${++asked}` });
  const { error } = await new Promise((resolve) => device.on("closed", resolve));
  assert.ok(error instanceof RefusedError);
  assert.deepEqual([error.status, error.code, error.reason, asked], [401, "unauthorized", "malformed", 2]);
});

test("What is no token is a TypeError", () => {
  const token = /** @type {any} */ (7);
  assert.throws(() => connect("http://127.0.0.1:1", { ...place, token }), TypeError);
});

// The WebSocket that tests in Node use: Node's own (22; 20 has it behind --experimental-websocket), or that of
// the package ws (Debian's node-ws beside its Node 18).

import { createRequire } from "node:module";

function packaged() {
  try {
    return createRequire(import.meta.url)("ws");
  } catch {
    return undefined;
  }
}

export const WebSocket = globalThis.WebSocket ?? packaged();

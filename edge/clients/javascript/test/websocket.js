// The WebSocket for tests in Node: Node's own (22; in 20 behind --experimental-websocket), or that of the package
// ws (Debian's node-ws for its Node 18).

import { createRequire } from "node:module";

function packaged() {
  try {
    return createRequire(import.meta.url)("ws");
  } catch {
    return undefined;
  }
}

export const WebSocket = globalThis.WebSocket ?? packaged();

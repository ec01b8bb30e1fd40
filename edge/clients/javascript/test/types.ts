// An application, type-checked against the declarations and never run. Each @ts-expect-error marks a mistake that
// the types must catch.

import type * as declared from "cloudmatch";
import { ClosedError, connect, type Payload, type Peer, PeerLeftError } from "cloudmatch";
import * as actual from "../cloudmatch.js";

const device = connect("https://edge.example", { id: "a", lat: 1, lon: 2, token: async () => "token" });
const peer: Peer = await device.matched();
const sent: Promise<void> = device.send(new Uint16Array([1]), { receipt: true });
const stop: () => void = device.on("peerLeft", ({ peer, reason, undelivered }) => {
  const rest: Payload[] = undelivered;
  console.log(`${peer.id} ${reason.toUpperCase()} ${rest.length}`);
});
device.addEventListener("gap", (event) => console.log(event.last - event.first, event.type === "gap"));
for await (const payload of device) {
  if (typeof payload === "string") console.log(payload.length, peer.distance.toFixed());
  else console.log(payload.byteLength);
}
try {
  await sent;
} catch (error) {
  if (error instanceof PeerLeftError) console.log(error.peer.id);
  else if (error instanceof ClosedError) console.log(error.code.toFixed());
}
stop();
await device.leave();

// @ts-expect-error no position
connect("https://edge.example", { id: "a" });
// @ts-expect-error no payload
device.send({ text: "ciao" });
// @ts-expect-error no such event
device.on("peer_left", () => {});
// @ts-expect-error a state can only be read
device.state = "closed";

// The module has what is declared of it.
export const checked: {
  connect: typeof declared.connect;
  Device: new (url: string | URL, options: declared.Options) => declared.Device;
  Conversation: new (now: number, random?: () => number) => declared.Conversation;
} = actual;
export const errors: {
  RefusedError: new (...all: never) => declared.RefusedError;
  ClosedError: new (...all: never) => declared.ClosedError;
  ReplacedError: new (...all: never) => declared.ReplacedError;
  NotMatchedError: new (...all: never) => declared.NotMatchedError;
  PeerLeftError: new (...all: never) => declared.PeerLeftError;
  PayloadRefusedError: new (...all: never) => declared.PayloadRefusedError;
} = actual;

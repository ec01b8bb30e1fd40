// A program of an application: compiled against the types, never run. Each @ts-expect-error is a mistake that
// the types must find.

import { ClosedError, connect, type Payload, type Peer, PeerLeftError } from "cloudmatch";

const device = connect("https://edge.example", { id: "a", lat: 1, lon: 2, token: async () => "token" });
const peer: Peer = await device.matched();
const told: Promise<void> = device.send(new Uint16Array([1]), { receipt: true });
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
  await told;
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

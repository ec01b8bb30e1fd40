// A Socket.IO node: emits what a device sends to the room of its peer, through Redis.
import { createServer } from "node:http";
import { createAdapter } from "@socket.io/redis-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";

const [, , port, redis] = process.argv;
const publisher = createClient({ url: `redis://127.0.0.1:${redis}` });
const subscriber = publisher.duplicate();
for (const client of [publisher, subscriber]) client.on("error", () => {}); // it reconnects automatically
process.on("unhandledRejection", () => {}); // publications in flight when Redis was killed
await Promise.all([publisher.connect(), subscriber.connect()]);

const http = createServer();
const io = new Server(http, { transports: ["websocket"], adapter: createAdapter(publisher, subscriber) });
io.on("connection", (socket) => {
  const own = socket.handshake.query.d; // <app>.<a or b><pair>
  const at = own.lastIndexOf(".") + 1;
  const peer = own.slice(0, at) + (own[at] === "a" ? "b" : "a") + own.slice(at + 1);
  socket.join(own);
  socket.on("m", (text) => io.to(peer).emit("m", text));
});
http.listen(Number(port), "127.0.0.1");

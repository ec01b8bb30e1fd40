/**
 * How a device reaches its edge, by dialect: `cloudmatch.v1` with the JavaScript SDK, classic with a plain WebSocket.
 * Both have `send`, `unmatch`, `move`, `drop` and `leave`, and call these handlers:
 *
 *     started()                      a connection attempt starts
 *     frame("in" | "out", data)      a raw frame: a string or a Uint8Array
 *     note(text), trouble(text)      a line for the log
 *     state(state)                   connecting, waiting, matched, dropped
 *     matched(peer)                  the peer, `{id, distance, match}`, or null
 *     away(away)                     whether the peer is disconnected
 *     payload(payload)               a payload for the application
 *     ended(text)                    the device is closed; why, unless it left
 *     brokeOff(silence)              a connection ended without a farewell, after so many seconds without a frame
 */

import { Device } from "../cloudmatch.js";

export const ABSENCE = 3000; // ms before a dropped device reconnects, so that the drop can be seen
const BROKEN = 1006; // the close code of a connection that ended without one
const DROPPED = 4999; // a close code without meaning: the edge treats the connection as broken

/** Return a WebSocket class that reports its frames. */
function observed(handlers, opened) {
  return class extends WebSocket {
    constructor(url, protocols) {
      super(url, protocols);
      this.binaryType = /** @type {BinaryType} */ ("arraybuffer");
      handlers.started();
      handlers.note(`connecting to ${url}`);
      this.addEventListener("open", () => this.#framed());
      this.addEventListener(
        "message",
        ({ data }) => handlers.frame("in", typeof data === "string" ? data : new Uint8Array(data)),
      );
      this.addEventListener("message", () => this.#framed());
      this.addEventListener("close", ({ code, reason }) => {
        handlers.note(closed(code, reason));
        if (code === BROKEN && this.#last) handlers.brokeOff((performance.now() - this.#last) / 1000);
      });
      opened(this);
    }

    #last = 0; // ms: when a frame passed; 0: it never opened
    #framed() {
      this.#last = performance.now();
    }

    /** @override */
    send(data) {
      this.#framed();
      handlers.frame("out", typeof data === "string" ? data : new Uint8Array(data).slice());
      super.send(data);
    }
  };
}

const closed = (code, reason) =>
  `connection closed, code ${code}${code === DROPPED ? " (dropped here)" : ""}${reason && `: ${reason}`}`;

/** A device of `cloudmatch.v1`. It reconnects automatically and resumes its match. */
export class V1Transport {
  #device;
  #handlers;
  #socket = null;
  /** @type {Promise<undefined>} */
  #held = Promise.resolve(undefined); // delays the next connection

  constructor(url, { id, lat, lon, app, radius, tag }, handlers) {
    const device = new Device(new URL(url).origin + new URL(url).pathname, {
      id,
      lat,
      lon, // as typed: the server parses them
      app: app || undefined,
      radius: radius || undefined,
      tag: tag || undefined,
      token: () => this.#held, // called before each connection; there is no token, only a delay
      WebSocket: observed(handlers, (socket) => (this.#socket = socket)),
    });
    this.#device = device;
    this.#handlers = handlers;
    device.on("state", ({ state }) => state !== "closed" && handlers.state(state));
    device.on("matched", ({ peer }) => handlers.matched(peer));
    device.on("resumed", ({ peer }) => {
      handlers.matched(peer);
      handlers.note(`resumed: the match with ${peer.id} continues, nothing is missing`);
    });
    device.on("peerAway", () => handlers.away(true));
    device.on("peerBack", () => handlers.away(false));
    device.on("peerLeft", ({ peer, reason, undelivered }) => {
      handlers.matched(null);
      handlers.note(
        `the match with ${peer.id} ended: ${reason}${
          undelivered.length ? `; ${undelivered.length} not delivered` : ""
        }`,
      );
    });
    device.on(
      "gap",
      ({ first, last, reason }) =>
        handlers.trouble(`payloads ${first} to ${last} can never arrive: ${reason}`),
    );
    device.on("error", ({ code, detail }) => handlers.trouble(`${code}: ${detail}`));
    device.on("closed", ({ error, reason }) => handlers.ended(error ? reason : ""));
    this.#receive();
  }

  async #receive() {
    try {
      for await (const payload of this.#device) this.#handlers.payload(payload);
    } catch { /* `closed` reports why */ }
  }

  /** Resolve when the payload is delivered; reject if it never will be. */
  send(payload) {
    return this.#device.send(payload, { receipt: true });
  }
  unmatch() {
    this.#device.unmatch();
    this.#handlers.matched(null);
  }
  move(lat, lon) {
    this.#device.move(Number(lat), Number(lon));
  }
  leave() {
    return this.#device.leave();
  }

  /** Drop the connection and delay the next one. */
  drop() {
    this.#held = new Promise((resolve) => setTimeout(() => resolve(undefined), ABSENCE));
    this.#handlers.state("dropped");
    this.#socket.close(DROPPED);
  }
}

/** A classic device: it receives sentences, and everything it sends is a payload. */
export class ClassicTransport {
  #socket;
  #left = false;

  constructor(url, handlers) {
    const Observed = observed(handlers, () => {});
    const socket = new Observed(url.replace(/^http/, "ws"));
    this.#socket = socket;
    let opened = false;
    handlers.state("connecting");
    socket.addEventListener("open", () => {
      opened = true;
      handlers.state("waiting");
    });
    socket.addEventListener("message", ({ data }) => {
      const [, peer] = /^I matched with device '(.*)'!$/s.exec(data) ?? [];
      const [, payload] = /^device .*? says: (.*)$/s.exec(data) ?? [];
      if (peer !== undefined) handlers.state("matched"), handlers.matched({ id: peer });
      else if (payload !== undefined) handlers.payload(payload);
    });
    socket.addEventListener("close", async ({ code }) => {
      handlers.matched(null);
      handlers.ended(opened || this.#left ? FAREWELL[code] ?? "" : await whyRefused(url));
    });
  }

  async send(payload) {
    this.#socket.send(payload);
  }
  drop() {
    this.#socket.close(DROPPED);
  }
  leave() {
    this.#left = true;
    this.#socket.close(1000);
  }
}

const FAREWELL = {
  [DROPPED]: "the connection dropped, and a classic device cannot resume",
  1001: "the edge is shutting down",
  1003: "a classic device cannot send binary",
  1008: "it sent what it may not: too many control frames, or a message that never ended",
  1013: "the peer, or this device, made no progress",
  4001: "replaced by a newer connection with the same id",
};

/** Ask by plain HTTP why a WebSocket was refused. */
async function whyRefused(url) {
  const { host } = new URL(url);
  try {
    const answer = await fetch(url);
    if (answer.status === 426) {
      return `${host} accepts this device, but no WebSocket opened: is there a proxy in between?`;
    }
    const { error } = await answer.json();
    return `refused by ${host}: ${error.detail}`;
  } catch {
    return `nothing answers at ${host}, or this page may not read the answer`;
  }
}

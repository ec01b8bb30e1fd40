/**
 * A device's line to its edge, in either dialect: `cloudmatch.v1` by the client for JavaScript, classic by a plain
 * WebSocket. Both have `send`, `unmatch`, `move`, `drop` and `leave`, and tell `ears` what happens:
 *
 *     began()                        a connection is tried
 *     frame("in" | "out", data)      a frame, as it is: a string or a Uint8Array
 *     note(text), trouble(text)      something else that a person should know
 *     is(state)                      connecting, waiting, matched, dropped
 *     matched(peer), away(whether)   the peer, `{id, distance, match}`, or null
 *     heard(payload)                 a payload, for the application
 *     ended(text)                    the line is over
 */

import { Device } from "../cloudmatch.js";

export const ABSENCE = 3000; // ms that a dropped device stays away, for its absence to be seen
const DROPPED = 4999; // a close code without a meaning: to the edge, a connection that broke

/** A WebSocket that tells of its frames. */
function watched(ears, opened) {
  return class extends WebSocket {
    constructor(url, protocols) {
      super(url, protocols);
      this.binaryType = /** @type {BinaryType} */ ("arraybuffer");
      ears.began();
      ears.note(`connects to ${url}`);
      this.addEventListener(
        "message",
        ({ data }) => ears.frame("in", typeof data === "string" ? data : new Uint8Array(data)),
      );
      this.addEventListener("close", ({ code, reason }) => ears.note(closed(code, reason)));
      opened(this);
    }

    /** @override */
    send(data) {
      ears.frame("out", typeof data === "string" ? data : new Uint8Array(data).slice());
      super.send(data);
    }
  };
}

const closed = (code, reason) =>
  `connection closed, code ${code}${code === DROPPED ? ": dropped here" : ""}${reason && `: ${reason}`}`;

/** A device that speaks `cloudmatch.v1`. It connects again by itself, and goes on with its match. */
export class Line {
  #device;
  #ears;
  #socket = null;
  /** @type {Promise<undefined>} */
  #held = Promise.resolve(undefined); // delays the next connection

  constructor(url, { id, lat, lon, app, radius, tag }, ears) {
    const device = new Device(new URL(url).origin + new URL(url).pathname, {
      id,
      lat,
      lon, // as typed: the server reads them
      app: app || undefined,
      radius: radius || undefined,
      tag: tag || undefined,
      token: () => this.#held, // asked before each connection; there is none, it only takes its time
      WebSocket: watched(ears, (socket) => (this.#socket = socket)),
    });
    this.#device = device;
    this.#ears = ears;
    device.on("state", ({ state }) => state !== "closed" && ears.is(state));
    device.on("matched", ({ peer }) => ears.matched(peer));
    device.on("resumed", ({ peer }) => {
      ears.matched(peer);
      ears.note(`resumed: the match with ${peer.id} goes on, nothing is missing`);
    });
    device.on("peerAway", () => ears.away(true));
    device.on("peerBack", () => ears.away(false));
    device.on("peerLeft", ({ peer, reason, undelivered }) => {
      ears.matched(null);
      ears.note(
        `the match with ${peer.id} is over: ${reason}${
          undelivered.length ? `; ${undelivered.length} not delivered` : ""
        }`,
      );
    });
    device.on(
      "gap",
      ({ first, last, reason }) => ears.trouble(`payloads ${first} to ${last} can never arrive: ${reason}`),
    );
    device.on("error", ({ code, detail }) => ears.trouble(`${code}: ${detail}`));
    device.on("closed", ({ error, reason }) => ears.ended(error ? reason : ""));
    this.#take();
  }

  async #take() {
    try {
      for await (const payload of this.#device) this.#ears.heard(payload);
    } catch { /* `closed` says why */ }
  }

  /** Resolves when the peer has it; rejects when it never will. */
  send(payload) {
    return this.#device.send(payload, { receipt: true });
  }
  unmatch() {
    this.#device.unmatch();
    this.#ears.matched(null);
  }
  move(lat, lon) {
    this.#device.move(Number(lat), Number(lon));
  }
  leave() {
    return this.#device.leave();
  }

  /** Break the connection, and stay away for a while. */
  drop() {
    this.#held = new Promise((resolve) => setTimeout(() => resolve(undefined), ABSENCE));
    this.#ears.is("dropped");
    this.#socket.close(DROPPED);
  }
}

/** A device of 2019: what it hears are sentences, and all that it says is payload. */
export class ClassicLine {
  #socket;
  #over = false;

  constructor(url, ears) {
    const Watched = watched(ears, () => {});
    const socket = new Watched(url.replace(/^http/, "ws"));
    this.#socket = socket;
    let opened = false;
    ears.is("connecting");
    socket.addEventListener("open", () => {
      opened = true;
      ears.is("waiting");
    });
    socket.addEventListener("message", ({ data }) => {
      const [, peer] = /^I matched with device '(.*)'!$/s.exec(data) ?? [];
      const [, payload] = /^device .*? says: (.*)$/s.exec(data) ?? [];
      if (peer !== undefined) ears.is("matched"), ears.matched({ id: peer });
      else if (payload !== undefined) ears.heard(payload);
    });
    socket.addEventListener("close", async ({ code }) => {
      ears.matched(null);
      ears.ended(opened || this.#over ? FAREWELL[code] ?? "" : await whyRefused(url));
    });
  }

  async send(payload) {
    this.#socket.send(payload);
  }
  drop() {
    this.#socket.close(DROPPED);
  }
  leave() {
    this.#over = true;
    this.#socket.close(1000);
  }
}

const FAREWELL = {
  [DROPPED]: "the connection dropped, and a classic device cannot resume",
  1001: "the edge went away",
  1003: "a classic device sends no binary",
  1013: "its peer made no progress",
  4001: "replaced by a newer connection with its id",
};

/** Ask by plain HTTP why a WebSocket was refused. */
async function whyRefused(url) {
  const { host } = new URL(url);
  try {
    const answer = await fetch(url);
    if (answer.status === 426) {
      return `${host} would take this device, but no WebSocket opened: a proxy in between?`;
    }
    const { error } = await answer.json();
    return `refused by ${host}: ${error.detail}`;
  } catch {
    return `nothing answers at ${host}, or it does not let this page read why`;
  }
}

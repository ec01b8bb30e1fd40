/** A device of the page: its set-up, state and log, without a DOM. */

import { address, fault } from "./setup.js";
import { ClassicTransport, V1Transport } from "./transports.js";
import { size } from "./words.js";

export const KEPT = 500; // entries of a log

/**
 * Events: `change` (anything but the log), `entry` (a new `entry` in the log), `state` (a new `state`),
 * `payload` (one was received), `delivered` (one was delivered to the peer), `resumed`, `brokeOff` (a connection, after a `silence` in s).
 */
export class Device extends EventTarget {
  state = "off"; // connecting, waiting, matched, dropped
  since = Date.now(); // of the state
  peer = null;
  peerAway = false;
  problem = ""; // why the device is off or not accepted, or what is wrong with its set-up
  explanation = null; // match-engine's answer: why there is no match
  holder = null; // match-engine's answer: the name of the edge that holds it
  log = [];
  #transport = null;
  #startedAt = performance.now();

  /** `setup` as in `setup.js`; `edge` is the address of the default edge. */
  constructor(setup, edge) {
    super();
    this.setup = setup;
    this.#edge = edge;
    this.#clear();
  }

  #edge;
  get edge() {
    return this.setup.edge || this.#edge;
  }
  get app() {
    return this.setup.app || "default";
  }
  get on() {
    return this.state !== "off";
  }
  get classic() {
    return this.setup.dialect === "classic";
  }
  get canSend() {
    return this.#transport !== null && this.peer !== null;
  }
  get canMove() {
    return !this.on || !this.classic;
  }

  #clear() {
    this.counts = { sent: 0, delivered: 0, failed: 0, received: 0, bytesSent: 0, bytesReceived: 0 };
  }

  connect() {
    if (this.#transport) return;
    const wrong = fault(this.setup);
    if (wrong) return this.#fail(wrong[1]);
    let url;
    try {
      url = address(this.setup, this.edge);
    } catch {
      return this.#fail(`${this.edge} is not the address of an edge.`);
    }
    this.problem = "";
    this.#clear();
    this.#setState("connecting");
    const handlers = this.#handlers(() => this.#transport === transport);
    const transport = this.classic
      ? new ClassicTransport(url, handlers)
      : new V1Transport(url, this.setup, handlers);
    this.#transport = transport;
  }

  #fail(problem) {
    this.problem = problem;
    this.#emit("change");
  }

  /** The handlers of a transport. Events of a previous transport are ignored, except in the log. */
  #handlers(present) {
    const now = (act) => (...args) => {
      if (this.#transport === null || present()) act(...args);
    };
    return {
      started: () => {
        this.#startedAt = performance.now();
      },
      frame: (way, data) => this.#write(way, data),
      note: (text) => this.#write("note", text),
      trouble: (text) => {
        this.#write("bad", text);
        if (this.state !== "connecting") return;
        this.problem = text; // the edge is full: the device tries again
        this.#emit("change");
      },
      state: now((state) =>
        this.state === "dropped" && state === "connecting" ? undefined : this.#setState(state)
      ),
      matched: now((peer) => this.#matched(peer)),
      away: now((away) => {
        this.peerAway = away;
        this.#emit("change");
      }),
      payload: now((payload) => {
        this.counts.received++;
        this.counts.bytesReceived += size(payload);
        this.#emit("payload", { payload, from: this.peer?.id });
        this.#emit("change");
      }),
      brokeOff: (silence) => this.#emit("brokeOff", { silence }),
      ended: (text) => {
        if (present()) this.#ended(text);
      },
    };
  }

  #matched(peer) {
    const same = peer !== null && peer.match !== undefined && peer.match === this.peer?.match;
    this.peer = peer;
    this.peerAway = false;
    if (same) this.#emit("resumed");
    this.#emit("change");
  }

  #ended(text) {
    this.#transport = this.peer = null;
    this.peerAway = false;
    this.problem = text;
    if (text) this.#write("bad", text);
    this.#setState("off");
  }

  #setState(state) {
    if (this.state === state) return;
    this.state = state;
    this.since = Date.now();
    if (state !== "waiting") this.explanation = null;
    if (state === "waiting" || state === "matched") this.problem = "";
    if (state !== "waiting" && state !== "matched") this.holder = null;
    this.#emit("state", { state });
    this.#emit("change");
  }

  /** Send a string or a Uint8Array. */
  async send(payload) {
    if (!this.canSend) return;
    const { counts, classic } = this;
    const [peer, begun] = [this.peer.id, performance.now()];
    counts.sent++;
    counts.bytesSent += size(payload);
    this.#emit("change");
    try {
      await this.#transport.send(payload);
      if (classic) return; // its dialect has no receipts
      counts.delivered++;
      this.#write("done", `delivered to ${peer} after ${Math.round(performance.now() - begun)} ms`);
      this.#emit("delivered", { payload, to: peer });
    } catch (error) {
      counts.failed++;
      this.#write("bad", `not delivered: ${error.message}`);
    }
    this.#emit("change");
  }

  unmatch() {
    this.#transport?.unmatch?.();
  }
  drop() {
    this.#transport?.drop();
  }
  leave() {
    this.#transport?.leave();
  }

  /** Change the position; a connected device sends it. */
  move(lat, lon) {
    if (!this.canMove) return;
    this.setup.lat = String(lat);
    this.setup.lon = String(lon);
    const wrong = fault(this.setup);
    this.problem = wrong?.[1] ?? "";
    if (this.#transport && !wrong) this.#transport.move(lat, lon);
    this.#emit("change");
  }

  /** The peer of a classic device has left: its dialect does not report that. */
  peerGone() {
    if (!this.classic || this.state !== "matched") return;
    this.peer = null;
    this.#setState("waiting");
  }

  #write(way, data) {
    const entry = {
      way,
      data,
      at: Date.now(),
      since: performance.now() - this.#startedAt,
      dialect: this.setup.dialect,
    };
    this.log.push(entry);
    if (this.log.length > KEPT) this.log.shift();
    this.#emit("entry", { entry });
  }

  #emit(type, fields) {
    this.dispatchEvent(Object.assign(new Event(type), fields));
  }
}

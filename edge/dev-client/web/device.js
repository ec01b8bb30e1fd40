/** A device of the page: how it is set up, how it stands, what it said and heard. No DOM here. */

import { ClassicLine, Line } from "./lines.js";
import { address, fault } from "./setup.js";
import { size } from "./words.js";

export const KEPT = 500; // entries of a log

/**
 * Events: `change` (anything but the log), `entry` (`entry` is new in the log), `state` (`state` is new),
 * `payload` (one has arrived here), `delivered` (one of ours has arrived there), `resumed`.
 */
export class Device extends EventTarget {
  state = "off"; // connecting, waiting, matched, dropped
  since = Date.now(); // of the state
  peer = null;
  peerAway = false;
  problem = ""; // why it is off, or what is wrong with the set-up
  explanation = null; // of match-engine: why there is no match
  log = [];
  #line = null;
  #began = performance.now();

  /** `setup` as `setup.js` has it; `edge` is the address of the edge that devices without one of their own use. */
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
    return this.#line !== null && this.peer !== null;
  }
  get canMove() {
    return !this.on || !this.classic;
  }

  #clear() {
    this.counts = { sent: 0, delivered: 0, failed: 0, received: 0, bytesSent: 0, bytesReceived: 0 };
  }

  connect() {
    if (this.#line) return;
    const wrong = fault(this.setup);
    if (wrong) return this.#fail(wrong[1]);
    let url;
    try {
      url = address(this.setup, this.edge);
    } catch {
      return this.#fail(`${this.edge} is no address of an edge.`);
    }
    this.problem = "";
    this.#clear();
    this.#is("connecting");
    const ears = this.#ears(() => this.#line === line);
    const line = this.classic ? new ClassicLine(url, ears) : new Line(url, this.setup, ears);
    this.#line = line;
  }

  #fail(problem) {
    this.problem = problem;
    this.#tell("change");
  }

  /** What a line tells. A line that was left behind is heard no more, except in the log. */
  #ears(present) {
    const now = (act) => (...args) => {
      if (this.#line === null || present()) act(...args);
    };
    return {
      began: () => {
        this.#began = performance.now();
      },
      frame: (way, data) => this.#write(way, data),
      note: (text) => this.#write("note", text),
      trouble: (text) => this.#write("bad", text),
      is: now((state) => this.state === "dropped" && state === "connecting" ? undefined : this.#is(state)),
      matched: now((peer) => this.#matched(peer)),
      away: now((away) => {
        this.peerAway = away;
        this.#tell("change");
      }),
      heard: now((payload) => {
        this.counts.received++;
        this.counts.bytesReceived += size(payload);
        this.#tell("payload", { payload, from: this.peer?.id });
        this.#tell("change");
      }),
      ended: (text) => {
        if (present()) this.#ended(text);
      },
    };
  }

  #matched(peer) {
    const same = peer !== null && peer.match !== undefined && peer.match === this.peer?.match;
    this.peer = peer;
    this.peerAway = false;
    if (same) this.#tell("resumed");
    this.#tell("change");
  }

  #ended(text) {
    this.#line = this.peer = null;
    this.peerAway = false;
    this.problem = text;
    if (text) this.#write("bad", text);
    this.#is("off");
  }

  #is(state) {
    if (this.state === state) return;
    this.state = state;
    this.since = Date.now();
    if (state !== "waiting") this.explanation = null;
    this.#tell("state", { state });
    this.#tell("change");
  }

  /** Send a string or a Uint8Array. */
  async send(payload) {
    if (!this.canSend) return;
    const { counts, classic } = this;
    const [peer, begun] = [this.peer.id, performance.now()];
    counts.sent++;
    counts.bytesSent += size(payload);
    this.#tell("change");
    try {
      await this.#line.send(payload);
      if (classic) return; // its dialect has no receipts
      counts.delivered++;
      this.#write("done", `${peer} has it, after ${Math.round(performance.now() - begun)} ms`);
      this.#tell("delivered", { payload, to: peer });
    } catch (error) {
      counts.failed++;
      this.#write("bad", `not delivered: ${error.message}`);
    }
    this.#tell("change");
  }

  unmatch() {
    this.#line?.unmatch?.();
  }
  drop() {
    this.#line?.drop();
  }
  leave() {
    this.#line?.leave();
  }

  /** Be elsewhere; a connected device says so. */
  move(lat, lon) {
    if (!this.canMove) return;
    this.setup.lat = String(lat);
    this.setup.lon = String(lon);
    const wrong = fault(this.setup);
    this.problem = wrong?.[1] ?? "";
    if (this.#line && !wrong) this.#line.move(lat, lon);
    this.#tell("change");
  }

  /** A classic device is not told that its peer has left; whoever knows says so here. */
  alone() {
    if (!this.classic || this.state !== "matched") return;
    this.peer = null;
    this.#is("waiting");
  }

  #write(way, data) {
    const entry = {
      way,
      data,
      at: Date.now(),
      since: performance.now() - this.#began,
      dialect: this.setup.dialect,
    };
    this.log.push(entry);
    if (this.log.length > KEPT) this.log.shift();
    this.#tell("entry", { entry });
  }

  #tell(type, fields) {
    this.dispatchEvent(Object.assign(new Event(type), fields));
  }
}

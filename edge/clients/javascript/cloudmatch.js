/**
 * CloudMatch for JavaScript: match a device with another and exchange payloads with it, each exactly once and
 * in order, over connections that may drop. For browsers and Node, without dependencies.
 *
 *     const device = connect("http://127.0.0.1:8080", { id: "a", lat: 52.37, lon: 4.89 });
 *     const peer = await device.matched();
 *     await device.send("ciao", { receipt: true }); // resolves once the peer's application has it
 *     for await (const payload of device) console.log(`${peer.id}: ${payload}`);
 *
 * Two halves. `Conversation` implements the protocol, cloudmatch.v1, without I/O: frames, calls and the time go
 * in, actions come out. `Device` adds the socket, the clock and the timer.
 *
 * The one hard idea: a match outlives connections. Payloads sent are kept until the server acknowledges their
 * delivery; payloads received are counted. A new connection reports how many were received and learns how many
 * were delivered, and both sides send the rest again: nothing is lost and nothing arrives twice.
 */

/**
 * @typedef {import("./cloudmatch.d.ts").Action} Action
 * @typedef {import("./cloudmatch.d.ts").Frame} Frame
 * @typedef {import("./cloudmatch.d.ts").Options} Options
 * @typedef {import("./cloudmatch.d.ts").Payload} Payload
 * @typedef {import("./cloudmatch.d.ts").Peer} Peer
 * @typedef {import("./cloudmatch.d.ts").Reason} Reason
 * @typedef {import("./cloudmatch.d.ts").Sendable} Sendable
 * @typedef {import("./cloudmatch.d.ts").State} State
 * @typedef {import("./cloudmatch.d.ts").DeviceEvents} DeviceEvents
 */
/**
 * @template {keyof DeviceEvents} Type
 * @typedef {import("./cloudmatch.d.ts").DeviceEvent<Type>} DeviceEvent
 */

const SUBPROTOCOL = "cloudmatch.v1";

// Limits on payloads in flight: sent, not yet known to be delivered. A single larger payload travels alone.
const WINDOW = 128;
const WINDOW_BYTES = 128 * 1024;

// Payloads taken by the application are acknowledged after this many payloads, or this many ms.
const ACK_EVERY = 16;
const ACK_WITHIN = 20;

// Times in ms.
const OPEN_WITHIN = 10_000; // from the first attempt to the server's welcome
const SILENCE = 15_000; // without a frame, at most: send a ping; without a frame for as long again: give up
const SILENCE_MIN = 1_000;
const LEAVE_WITHIN = 2_000; // for the server to close after `leave`
const SPREAD = 1_000; // over which all devices of an edge that shuts down reconnect
const BACKOFF = [100, 5_000]; // between attempts to connect: the first, doubling up to the longest
const LONG_BACKOFF = [1_000, 30_000];
const RETRY_AFTER_MAX = 120_000; // that a server may ask for

const PATIENCE = 3; // how much longer a silence may be after a connection that was dead as soon as it was made

const OWN_ATTEMPT = 60_000; // for which an attempt of our own that was abandoned may still reach the server

const UNAVAILABLE = 503; // HTTP: the edge is full, or not ready
const TOO_MANY = 429; // HTTP: the address, the app or the device has as much as it may
const REFUSED = [400, 401, 403, 404]; // HTTP, with an error of the server's own: trying again does not help
const TOKEN_EXPIRED = 4003;
const RENEW_WITHIN = [100, 5000]; // ms between two times that a function is asked for a token: at first, at last
const GONE = [1001, 1012]; // close codes of an edge that shuts down

// -- close codes (generated)
const NORMAL = 1000;
const ABNORMAL = 1006;
const REPLACED = 4001;
// When to reconnect after each close code. Any other code: with backoff.
const RECONNECT = /** @type {Record<number, string>} */ ({
  1000: "with backoff", // normal
  1001: "at once", // going away
  1002: "with backoff", // protocol error
  1003: "never", // unsupported data
  1006: "with backoff", // abnormal
  1007: "never", // invalid data
  1008: "with backoff", // policy violation
  1009: "never", // too large
  1011: "with backoff", // internal error
  1012: "at once", // service restart
  1013: "with long backoff", // try again later
  4001: "never", // replaced
  4003: "never", // token expired
  4008: "with backoff", // ping timeout
});
// -- end of close codes

// Why a device stops, by those close codes after which it never reconnects.
const STOPPED = /** @type {Record<number, string>} */ ({
  1003: "the server does not accept binary payloads",
  1007: "a text was not UTF-8",
  1009: "a payload exceeded the server's size limit",
  4001: "a newer connection has this device's id",
  4003: "the token has expired or was revoked",
});

/** Any failure of a device. */
export class CloudMatchError extends Error {
  /** @param {string} message */
  constructor(message) {
    super(message);
    this.name = new.target.name;
  }
}

/** The server does not admit the device; `status` is that of HTTP. */
export class RefusedError extends CloudMatchError {
  /**
   * @param {string} message
   * @param {Refusal} why
   */
  constructor(message, { status, code, detail, parameter, reason }) {
    super(message);
    this.status = status;
    this.code = code;
    this.detail = detail;
    this.parameter = parameter;
    this.reason = reason;
  }
}

/** The device is closed and does not reconnect; `code` is that of the WebSocket's close. */
export class ClosedError extends CloudMatchError {
  /**
   * @param {string} reason
   * @param {number} code
   */
  constructor(reason, code) {
    super(reason);
    this.code = code;
    this.reason = reason;
  }
}

/** A newer connection has taken over the device's id. */
export class ReplacedError extends ClosedError {}

/** There is no peer to send to. */
export class NotMatchedError extends CloudMatchError {}

/** The match ended before the payload was delivered. */
export class PeerLeftError extends CloudMatchError {
  /**
   * @param {Peer} peer
   * @param {Reason} reason
   */
  constructor(peer, reason) {
    super(`the match ended: ${reason}`);
    this.peer = peer;
    this.reason = reason;
  }
}

/** The server refused the payload. */
export class PayloadRefusedError extends CloudMatchError {
  /**
   * @param {string} code
   * @param {string} detail
   */
  constructor(code, detail) {
    super(detail);
    this.code = code;
    this.detail = detail;
  }
}

// Phases of the connection. Each has an end, `#phaseEnds`, unless something happens before.
const IDLE = "idle"; // until it is time to connect
const OPENING = "opening"; // until the welcome takes too long
const OPEN = "open"; // until no frame has arrived for too long
const PROBING = "probing"; // a ping is unanswered; until the answer takes too long
const LEAVING = "leaving"; // until the server takes too long to close
const CLOSED = "closed"; // for ever

/**
 * @typedef {object} Outgoing A payload that is not delivered yet.
 * @property {Payload} payload
 * @property {number} size Bytes.
 * @property {boolean} receipt
 * @property {string | undefined} ref
 * @property {Frame} frame
 * @typedef {{ payload: Payload, number: number, peer: Peer }} Incoming A payload that nobody has taken yet.
 * @typedef {object} Refusal
 * @property {number} status
 * @property {string} code
 * @property {string} detail
 * @property {string} [parameter]
 * @property {string} [reason]
 * @property {number} [retryAfter]
 * @property {boolean} [final] Whether these are the server's own words, and trying again does not help.
 * @typedef {{ match: number, peer: string, distance: number, received: number }} Matched
 * @typedef {{ resume: string, grace: number, max_payload: number, heartbeat?: number }} Welcome
 */
/**
 * @template T
 * @typedef {{ resolve: (value: T) => void, reject: (error: Error) => void }} Deferred
 */

/**
 * One device's side of cloudmatch.v1, over all its connections, without I/O.
 *
 * Times are ms of any clock that does not go back. After each call the caller performs `actions` in order
 * and removes them: `{connect: query}`, `{write: frame}`, `{event: {type, …}}`, `{disconnect: code}`. A frame
 * is an object, to be written as JSON, or a Uint8Array. The caller calls `tick` at `deadline`.
 */
export class Conversation {
  /** @type {State} */
  state = "connecting";
  /** @type {Peer | null} */
  peer = null;
  peerAway = false;
  renews = false; // whether another token can be had
  /** @type {Action[]} */
  actions = [];

  // the connection, and the session, which outlives connections
  #phase = IDLE;
  #phaseEnds;
  #random;
  /** @type {Welcome | null} */
  #session = null; // the last welcome
  #synced = false; // whether the server has confirmed the match on this connection
  #welcomedAt = 0;
  #abandonedAt = -Infinity; // when an attempt ended of which nobody knows whether the server has taken it
  #silence = SILENCE;
  #patience = 1;
  #expires = Infinity; // when the server drops a session without a connection
  #backoff = 0; // ms before the last attempt to connect
  #failures = 0; // attempts in a row whose connection did not outlast its backoff
  /** @type {CloudMatchError | null} */
  #error = null; // what closed the device

  // the position, once the device has moved; the position sent by this connection; the match being left
  /** @type {{ lat: number, lon: number } | null} */
  #position = null;
  /** @type {{ lat: number, lon: number } | null} */
  #positionSent = null;
  /** @type {number | undefined} */
  #abandoned = undefined;

  // sending: payloads that wait for room; in flight, and their bytes; how many of the match are delivered
  /** @type {(Outgoing & Deferred<void>)[]} */
  #queue = [];
  /** @type {(Outgoing & Deferred<void>)[]} */
  #inFlight = [];
  #inFlightBytes = 0;
  #delivered = 0;
  #receipts = 0; // references used

  // receiving: payloads that nobody has taken; the number of the last one on this connection; how many of the
  // match were received, taken, acknowledged; when the next ack is due
  /** @type {Incoming[]} */
  #inbox = [];
  #last = 0;
  #received = 0;
  #taken = 0;
  #acked = 0;
  #ackAt = Infinity;

  // promises given to the application
  /** @type {Deferred<Payload>[]} */
  #receivers = [];
  /** @type {Deferred<Peer>[]} */
  #matchWaiters = [];

  /**
   * @param {number} now
   * @param {() => number} random From 0 to 1: spreads devices that reconnect.
   */
  constructor(now, random = Math.random) {
    this.#phaseEnds = now;
    this.#random = random;
  }

  /** When to call `tick`. */
  get deadline() {
    return Math.min(this.#phaseEnds, this.#ackAt, this.#phase === IDLE ? this.#expires : Infinity);
  }

  // -- connections

  /**
   * Do what is due.
   * @param {number} now
   */
  tick(now) {
    if (now >= this.#ackAt) this.#ack(this.#taken);
    if (this.#phase === IDLE && now >= this.#expires) {
      this.#session = null;
      this.#expires = Infinity;
      this.#endMatch("expired");
    }
    if (now < this.#phaseEnds) return;
    if (this.#phase === IDLE) {
      this.#connect(now);
    } else if (this.#phase === OPEN) {
      this.#setPhase(PROBING, now + this.#silence);
      this.#write({ type: "ping" });
    } else {
      if (this.#phase === PROBING) this.#giveUp(now);
      this.actions.push({ disconnect: NORMAL });
      this.lost(ABNORMAL, now);
    }
  }

  /**
   * If the connection is dead at once, perhaps a large payload was on its way over a slow link: be patient.
   * @param {number} now
   */
  #giveUp(now) {
    this.#patience = now < this.#welcomedAt + 3 * this.#silence ? PATIENCE : 1;
  }

  /** @param {number} now */
  #connect(now) {
    this.#setPhase(OPENING, now + OPEN_WITHIN);
    this.#positionSent = this.#position;
    const match = this.peer?.match ?? this.#abandoned;
    const received = match === undefined ? 0 : this.#received;
    const resume = this.#session && { resume: this.#session.resume, received, match };
    this.actions.push({ connect: { ...this.#position, ...resume } });
  }

  /**
   * The server accepts no connection at present.
   * @param {Refusal} why
   * @param {number} now
   */
  unavailable(why, now, elsewhere = false) {
    if (this.#phase === CLOSED) return;
    this.#emit("error", { code: why.code, detail: why.detail });
    this.lost(why.status, now, elsewhere, why.retryAfter);
  }

  /**
   * The connection ended with this close code, or was never made, for which an HTTP status may say why.
   * @param {number} code
   * @param {number} now
   * @param {boolean} elsewhere Whether there is another edge to connect to at once.
   * @param {number} retryAfter For how long the server asks to wait at least.
   */
  lost(code, now, elsewhere = false, retryAfter = 0) {
    if (this.#phase === CLOSED) return;
    if (this.#phase === LEAVING) return this.close();
    // The newer connection that replaces this one may be an attempt of our own: then try once more.
    const own = code === REPLACED && now < this.#abandonedAt + OWN_ATTEMPT;
    if (own) this.#abandonedAt = -Infinity;
    else if (RECONNECT[code] === "never" && !(code === TOKEN_EXPIRED && this.renews)) {
      return this.#end(code, new (code === REPLACED ? ReplacedError : ClosedError)(STOPPED[code], code));
    }
    if (this.#phase === OPENING) this.#abandonedAt = now;
    const lasted = this.#phase === OPENING ? 0 : now - this.#welcomedAt;
    if (this.#session) this.#expires = Math.min(this.#expires, now + this.#session.grace * 1000);
    this.#synced = false;
    this.#ackAt = Infinity;
    this.#setPhase(IDLE, now + (elsewhere ? 0 : this.#nextBackoff(code, lasted, retryAfter)));
    this.#setState("connecting");
  }

  /**
   * How long to wait before reconnecting. A connection that outlasted its backoff resets it.
   * @param {number} code
   * @param {number} lasted
   * @param {number} least
   */
  #nextBackoff(code, lasted, least) {
    if (lasted > this.#backoff) this.#failures = 0;
    const jitter = this.#random();
    const long = code === UNAVAILABLE || RECONNECT[code] === "with long backoff";
    const [first, longest] = long ? LONG_BACKOFF : BACKOFF;
    this.#backoff = RECONNECT[code] === "at once" || code === REPLACED
      ? SPREAD * jitter
      : Math.min(first * 2 ** this.#failures++, longest) * (0.5 + jitter / 2);
    return Math.max(this.#backoff, least * (1 + jitter / 2));
  }

  /**
   * The server does not admit the device.
   * @param {Refusal} why
   */
  refused(why) {
    const reason = why.parameter ? `${why.parameter}: ${why.detail}` : why.detail;
    this.#end(null, new RefusedError(reason, why));
  }

  /**
   * A frame arrived.
   * @param {string | Uint8Array} frame
   * @param {number} now
   */
  onFrame(frame, now) {
    const message = typeof frame === "string" ? JSON.parse(frame) : { type: "binary" };
    if (this.#phase === OPENING && message.type === "welcome") return this.#onWelcome(message, now);
    if (this.#connected) this.#setPhase(OPEN, now + this.#silence);
    else if (this.#phase !== LEAVING) return;
    switch (message.type) {
      case "waiting":
        return this.#onWaiting(message);
      case "matched":
        return this.#onMatched(message);
      case "resumed":
        return this.#onResumed(message, this.#received);
      case "message":
        return this.#onPayload(message.text, message.n, now);
      case "binary":
        return this.#onPayload(/** @type {Uint8Array} */ (frame), this.#last + 1, now);
      case "ack":
        return this.#settle(message.delivered - this.#delivered);
      case "receipt":
        return this.#settle(this.#find(message.ref) + 1);
      case "peer_away":
        return this.#onPeerAway(true);
      case "peer_back":
        return this.#onPeerAway(false);
      case "peer_left":
        return this.#endMatch(message.reason);
      case "gap":
        return this.#skip(message.from, message.to, message.reason);
      case "error":
        return this.#onError(message);
      case "token_expires":
        return this.#emit("tokenExpires", { seconds: message.in });
    } // ignore types of later protocols
  }

  /**
   * Two silences take at most a third of the grace, so that the rest of it is left to connect elsewhere.
   * @param {Welcome} message
   * @param {number} now
   */
  #onWelcome(message, now) {
    const { grace, heartbeat } = message;
    const told = Math.min(SILENCE, (grace * 1000) / 6 || SILENCE, (heartbeat ?? 0) * 1000 || SILENCE);
    this.#silence = Math.max(SILENCE_MIN, told) * this.#patience;
    this.#setPhase(OPEN, now + this.#silence);
    this.#session = message;
    this.#welcomedAt = now;
    this.#expires = Infinity; // while there is a connection, the server decides
    if (this.#position !== this.#positionSent) this.#write({ type: "locate", ...this.#position });
  }

  /**
   * Go on with another token on this connection.
   * @param {string} token
   */
  renew(token) {
    if (this.#connected) this.#write({ type: "token", token });
  }

  // -- the match

  /** @param {{ since: number }} message */
  #onWaiting({ since }) {
    this.#endMatch("expired");
    this.#setState("waiting");
    this.#emit("waiting", { since });
  }

  /**
   * @param {Matched} message
   * @returns {void}
   */
  #onMatched(message) {
    const { match, peer: id, distance } = message;
    const known = match === this.peer?.match || match === this.#abandoned;
    if (known) return this.#onResumed({ ...message, received: 0 }, 0);
    this.#endMatch("expired");
    const peer = this.peer = Object.freeze({ id, distance, match });
    this.#delivered =
      this.#last =
      this.#received =
      this.#taken =
        0;
    this.#synced = true;
    this.#ack(0);
    this.#setState("matched");
    this.#emit("matched", { peer });
    for (const { resolve } of this.#matchWaiters.splice(0)) resolve(peer);
  }

  /**
   * The match continues; the peer's payloads after number `last` follow.
   * @param {Matched} message
   * @param {number} last
   * @returns {void}
   */
  #onResumed(message, last) {
    if (message.match === this.#abandoned) return this.#write({ type: "unmatch" });
    const { peer } = this;
    if (!peer || message.match !== peer.match) return this.#onMatched(message); // its `matched` was lost
    this.peerAway = false;
    this.#last = last;
    this.#setState("matched");
    this.#emit("resumed", { peer });
    this.#settle(message.received - this.#delivered);
    this.#delivered = message.received; // the server may know less than it did, and counts from there
    this.#synced = true;
    this.#ack(this.#received);
    for (const { frame } of this.#inFlight) this.#write(frame);
  }

  /** @param {boolean} away */
  #onPeerAway(away) {
    const { peer } = this;
    if (!peer || this.peerAway === away) return;
    this.peerAway = away;
    this.#emit(away ? "peerAway" : "peerBack", { peer });
  }

  /** @param {Reason} reason */
  #endMatch(reason) {
    this.#abandoned = undefined;
    const { peer } = this;
    if (!peer) return;
    const undelivered = this.#clearMatch(new PeerLeftError(peer, reason));
    this.#setState(this.#connected ? "waiting" : "connecting");
    this.#emit("peerLeft", { peer, reason, undelivered });
  }

  /**
   * Forget the match; fail the payloads that were not delivered, and return them.
   * @param {Error} error
   */
  #clearMatch(error) {
    const undelivered = [...this.#inFlight.splice(0), ...this.#queue.splice(0)];
    for (const { reject } of undelivered) reject(error);
    this.peer = null;
    this.peerAway = this.#synced = false;
    this.#inFlightBytes = 0;
    this.#ackAt = Infinity;
    return undelivered.map(({ payload }) => payload);
  }

  // -- sending

  /**
   * Send a string, or a Uint8Array that nobody modifies. Resolves as `Device.send` does.
   * @param {Payload} payload
   * @returns {Promise<void>}
   */
  send(payload, receipt = false) {
    const size = typeof payload === "string" ? encoder.encode(payload).length : payload.length;
    const error = this.#error ?? this.#sendError(size);
    if (error) return Promise.reject(error);
    const ref = typeof payload === "string" && receipt ? `${++this.#receipts}` : undefined;
    /** @type {Frame} */
    const frame = typeof payload === "string" ? { type: "message", text: payload, ref } : payload;
    const result = deferred(this.#queue, { payload, size, receipt, ref, frame });
    result.catch(() => {}); // an application that does not await it gets `peerLeft` or `closed`
    this.#transmit();
    return result;
  }

  /** @param {number} size */
  #sendError(size) {
    if (!this.peer) return new NotMatchedError("there is no peer to send to: await matched() first");
    const limit = this.#session?.max_payload ?? Infinity;
    if (size <= limit) return null;
    const detail = `${size} bytes exceed the limit of ${limit}`;
    return new PayloadRefusedError("payload_too_large", detail);
  }

  #transmit() {
    for (let next = this.#queue[0]; next && this.#fits(next); next = this.#queue[0]) {
      this.#queue.shift();
      this.#inFlight.push(next);
      this.#inFlightBytes += next.size;
      if (this.#synced) this.#write(next.frame);
      if (!next.receipt) next.resolve();
    }
  }

  /** @param {Outgoing} payload */
  #fits({ size }) {
    const count = this.#inFlight.length;
    return count === 0 || (count < WINDOW && this.#inFlightBytes + size <= WINDOW_BYTES);
  }

  /**
   * The first `count` payloads in flight are delivered.
   * @param {number} count
   */
  #settle(count) {
    if (count <= 0) return;
    for (const { size, resolve } of this.#inFlight.splice(0, count)) {
      this.#delivered++;
      this.#inFlightBytes -= size;
      resolve();
    }
    this.#transmit();
  }

  /** @param {string | undefined} ref */
  #find(ref) {
    return ref === undefined ? -1 : this.#inFlight.findIndex((sent) => sent.ref === ref);
  }

  /**
   * The server refused a payload, which it did not count, or reports another error.
   * @param {{ code: string, detail: string, ref?: string }} message
   */
  #onError({ code, detail, ref }) {
    const at = this.#find(ref);
    if (at >= 0) {
      const [{ size, reject }] = this.#inFlight.splice(at, 1);
      this.#inFlightBytes -= size;
      reject(new PayloadRefusedError(code, detail));
      this.#transmit();
    } else if (code !== "not_matched") { // such a payload was in flight when its match ended, and failed then
      this.#emit("error", { code, detail });
    }
  }

  // -- receiving

  /**
   * @param {Payload} payload
   * @param {number} number
   * @param {number} now
   */
  #onPayload(payload, number, now) {
    this.#last = number;
    if (!this.peer || number <= this.#received) return;
    if (number > this.#received + 1) this.#skip(this.#received + 1, number - 1, "missing");
    this.#received = this.#last = number;
    this.#inbox.push({ payload, number, peer: this.peer });
    this.#receivers.shift()?.resolve(this.#take(now));
  }

  /**
   * Payloads `first` to `last` will never arrive.
   * @param {number} first
   * @param {number} last
   * @param {string} reason
   */
  #skip(first, last, reason) {
    if (!this.peer) return;
    this.#last = last;
    this.#received = Math.max(this.#received, last);
    this.#emit("gap", { first, last, reason });
  }

  /**
   * Resolve with the next payload, which then counts as taken.
   * @param {number} now
   * @returns {Promise<Payload>}
   */
  receive(now) {
    if (this.#inbox.length) return Promise.resolve(this.#take(now));
    if (this.#error) return Promise.reject(this.#error);
    return deferred(this.#receivers, {});
  }

  /** @param {number} now */
  #take(now) {
    const { payload, number, peer } = /** @type {Incoming} */ (this.#inbox.shift());
    if (peer === this.peer) {
      this.#taken = number;
      const fresh = number - this.#acked;
      if (fresh >= ACK_EVERY && this.#synced) this.#ack(number);
      else if (fresh > 0 && this.#synced) this.#ackAt = Math.min(this.#ackAt, now + ACK_WITHIN);
    }
    return payload;
  }

  /** @param {number} received */
  #ack(received) {
    this.#acked = received;
    this.#ackAt = Infinity;
    this.#write({ type: "ack", received, match: this.peer?.match });
  }

  // -- the application's other calls

  /**
   * Resolve with the present peer or, if there is none, the next.
   * @returns {Promise<Peer>}
   */
  matched() {
    if (this.peer) return Promise.resolve(this.peer);
    if (this.#error) return Promise.reject(this.#error);
    return deferred(this.#matchWaiters, {});
  }

  /** Leave the match: undelivered payloads fail, and nothing more of it is received. */
  unmatch() {
    const { peer } = this;
    if (!peer) return;
    this.#abandoned = peer.match;
    if (this.#synced) this.#write({ type: "unmatch" });
    this.#clearMatch(new PeerLeftError(peer, "unmatched"));
    this.#setState(this.#connected ? "waiting" : "connecting");
  }

  /**
   * Change the position.
   * @param {number} lat
   * @param {number} lon
   */
  move(lat, lon) {
    this.#position = { lat, lon };
    if (this.#connected) this.#write({ type: "locate", lat, lon });
  }

  /**
   * Leave for good; the server closes the connection.
   * @param {number} now
   */
  leave(now) {
    if (this.#phase === LEAVING) return;
    if (!this.#connected) return this.close();
    this.#write({ type: "leave" });
    this.#setPhase(LEAVING, now + LEAVE_WITHIN);
  }

  /** Stop without leaving: the server keeps the match for its grace. */
  close() {
    this.#end(NORMAL, new ClosedError("the device is closed", NORMAL));
  }

  // -- shared

  get #connected() {
    return this.#phase === OPEN || this.#phase === PROBING;
  }

  /**
   * @param {number | null} code
   * @param {RefusedError | ClosedError} error
   */
  #end(code, error) {
    if (this.#phase === CLOSED) return;
    this.#setPhase(CLOSED, Infinity);
    this.#error = error;
    const undelivered = this.#clearMatch(error);
    for (const { reject } of [...this.#receivers.splice(0), ...this.#matchWaiters.splice(0)]) reject(error);
    this.actions.push({ disconnect: NORMAL });
    this.#setState("closed");
    const shown = code === NORMAL ? null : error;
    this.#emit("closed", { code, reason: error.message, undelivered, error: shown });
  }

  /**
   * @param {string} phase
   * @param {number} ends
   */
  #setPhase(phase, ends) {
    [this.#phase, this.#phaseEnds] = [phase, ends];
  }

  /** @param {State} state */
  #setState(state) {
    if (this.state === state) return;
    this.state = state;
    this.#emit("state", { state });
  }

  /**
   * @template {keyof DeviceEvents} Type
   * @param {Type} type
   * @param {DeviceEvents[Type]} fields
   */
  #emit(type, fields) {
    this.actions.push({ event: /** @type {Action["event"]} */ ({ type, ...fields }) });
  }

  /** @param {Frame} frame */
  #write(frame) {
    this.actions.push({ write: frame });
  }
}

const encoder = new TextEncoder();
const OPEN_SOCKET = 1; // `readyState` of a WebSocket that accepts frames
const LONE_SURROGATE = /\p{Surrogate}/gu; // half a character, which UTF-8 cannot encode

/**
 * Append a promise's `resolve` and `reject` to a list, with these fields; return the promise.
 * @template T
 * @template {object} Fields
 * @param {(Fields & Deferred<T>)[]} list
 * @param {Fields} fields
 * @returns {Promise<T>}
 */
function deferred(list, fields) {
  return new Promise((resolve, reject) => list.push(Object.assign({ resolve, reject }, fields)));
}

/** The edges that a device may connect to, in order of preference; any of them can continue a match. */
class Edges {
  #urls;
  #at = 0;
  #failed = 0; // edges in a row that did not accept the device, or are going away
  open = false; // whether the present edge has accepted the device

  /** @param {URL[]} urls */
  constructor(urls) {
    if (!urls.length) throw new TypeError("the URL of at least one server is required");
    this.#urls = urls;
  }

  /** The edge to connect to. */
  get url() {
    return this.#urls[this.#at];
  }

  /** The edge has accepted the device. */
  opened() {
    this.open = true;
    this.#failed = 0;
  }

  /**
   * Choose the edge to connect to after a close code or an HTTP status; return whether to do so at once, because
   * it has not failed yet. A connection that broke is restored at the same edge. An edge that goes away sends all
   * its devices at once to others, so these do not hurry.
   * @param {number} code
   */
  ended(code) {
    const wasOpen = this.open;
    this.open = false;
    if (wasOpen && !GONE.includes(code)) return false;
    this.#at = (this.#at + 1) % this.#urls.length;
    return ++this.#failed % this.#urls.length > 0 && !wasOpen;
  }
}

/** A device: a `Conversation` with a socket, a clock and a timer. `cloudmatch.d.ts` documents its methods. */
export class Device extends EventTarget {
  #conversation = new Conversation(performance.now());
  #edges;
  /** @type {() => string | undefined | Promise<string | undefined>} */
  #token;
  #denied = false; // whether the last attempt got 401
  #WebSocket;
  /** @type {WebSocket | null} */
  #socket = null;
  #attempt = 0; // number of the connection; events of earlier ones are ignored
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #timerAt = Infinity;
  #performing = false;

  /**
   * @param {string | URL | (string | URL)[]} url
   * @param {Options} options
   */
  constructor(url, { token, WebSocket = globalThis.WebSocket, ...parameters }) {
    super();
    if (!WebSocket) throw new TypeError("this runtime has no global WebSocket: pass one as an option");
    this.#edges = new Edges([url].flat().map((each) => extended(endpoint(each), parameters)));
    if (!["string", "function", "undefined"].includes(typeof token)) {
      throw new TypeError(`token must be a string, or a function that returns one, not ${typeof token}`);
    }
    this.#token = typeof token === "function" ? token : () => token;
    this.#conversation.renews = typeof token === "function";
    if (typeof token === "function") this.on("tokenExpires", () => this.#renew());
    this.#WebSocket = WebSocket;
    this.#perform();
  }

  get state() {
    return this.#conversation.state;
  }
  get peer() {
    return this.#conversation.peer;
  }
  get peerAway() {
    return this.#conversation.peerAway;
  }
  matched() {
    return this.#conversation.matched();
  }
  receive() {
    return this.#step((conversation, now) => conversation.receive(now));
  }
  unmatch() {
    this.#step((conversation) => conversation.unmatch());
  }
  /**
   * @param {number} lat
   * @param {number} lon
   */
  move(lat, lon) {
    this.#step((conversation) => conversation.move(lat, lon));
  }
  close() {
    this.#step((conversation) => conversation.close());
  }

  /**
   * @param {Sendable} payload
   * @param {{ receipt?: boolean }} options
   */
  send(payload, { receipt = false } = {}) {
    const own = typeof payload === "string" ? payload.replace(LONE_SURROGATE, "\ufffd") : copy(payload);
    return this.#step((conversation) => conversation.send(own, receipt));
  }

  /** @returns {Promise<void>} */
  leave() {
    return new Promise((resolve) => {
      this.addEventListener("closed", () => resolve(), { once: true });
      this.#step((conversation, now) => conversation.leave(now));
      if (this.state === "closed") resolve();
    });
  }

  /**
   * @template {keyof DeviceEvents} Type
   * @param {Type} type
   * @param {(event: DeviceEvent<Type>) => void} listener
   */
  on(type, listener) {
    const each = /** @type {EventListener} */ (listener);
    this.addEventListener(type, each);
    return () => this.removeEventListener(type, each);
  }

  /** @returns {AsyncGenerator<Payload, void, undefined>} */
  async *[Symbol.asyncIterator]() {
    try {
      while (true) yield await this.receive();
    } catch (error) {
      if (/** @type {{ code?: unknown }} */ (error).code !== NORMAL) throw error;
    }
  }

  /**
   * Call the conversation, then perform its actions.
   * @template T
   * @param {(conversation: Conversation, now: number) => T} call
   */
  #step(call) {
    const result = call(this.#conversation, performance.now());
    this.#perform();
    return result;
  }

  /** Perform all actions in order, including those that listeners add meanwhile. */
  #perform() {
    if (this.#performing) return;
    this.#performing = true;
    const { actions } = this.#conversation;
    for (let action = actions.shift(); action; action = actions.shift()) {
      const { connect, write, event, disconnect } = action;
      if (connect) this.#connect(connect);
      else if (write) this.#write(write);
      else if (event) this.#dispatch(event);
      else this.#disconnect(disconnect);
    }
    this.#performing = false;
    this.#setTimer(this.#conversation.deadline);
  }

  /**
   * Write, unless the socket is already closing: that would only log a warning, and `onclose` follows.
   * @param {Frame} frame
   */
  #write(frame) {
    if (this.#socket?.readyState !== OPEN_SOCKET) return;
    this.#socket.send(
      frame instanceof Uint8Array ? /** @type {Uint8Array<ArrayBuffer>} */ (frame) : JSON.stringify(frame),
    );
  }

  /**
   * Tick at `deadline`. A timer that fires too early does no harm, and is cheaper than a new one.
   * @param {number} deadline
   */
  #setTimer(deadline) {
    if (deadline >= this.#timerAt && deadline < Infinity) return;
    clearTimeout(this.#timer);
    this.#timerAt = deadline;
    if (deadline === Infinity) return;
    this.#timer = setTimeout(() => {
      this.#timerAt = Infinity;
      this.#step((conversation, now) => conversation.tick(now));
    }, deadline - performance.now());
  }

  /** @param {NonNullable<Action["event"]>} event */
  #dispatch({ type, ...fields }) {
    this.dispatchEvent(Object.assign(new Event(type), fields));
  }

  /** @param {NonNullable<Action["connect"]>} query */
  async #connect(query) {
    const attempt = ++this.#attempt;
    /** @param {(conversation: Conversation, now: number) => void} call */
    const step = (call) => attempt === this.#attempt && this.#step(call);
    const edges = this.#edges;
    const url = extended(edges.url, query);
    try {
      const token = await this.#token();
      if (attempt !== this.#attempt) return;
      const protocols = token ? [SUBPROTOCOL, `bearer.${token}`] : [SUBPROTOCOL];
      const socket = /** @type {WebSocket} */ (new this.#WebSocket(url.href, protocols));
      this.#socket = socket;
      socket.binaryType = "arraybuffer";
      socket.onopen = () => {
        if (attempt !== this.#attempt) return;
        edges.opened();
        this.#denied = false;
      };
      socket.onmessage = ({ data }) => {
        const frame = typeof data === "string" ? data : new Uint8Array(data);
        step((conversation, now) => conversation.onFrame(frame, now));
      };
      socket.onclose = ({ code }) =>
        step((conversation, now) => conversation.lost(code, now, edges.ended(code)));
      socket.onerror = async () => {
        if (edges.open) return; // `onclose` follows; after a refusal some runtimes omit it
        socket.onclose = null;
        const why = await refusal(url, token);
        step((conversation, now) => {
          const again = why?.status === 401 && conversation.renews && !this.#denied;
          this.#denied = why?.status === 401;
          if (!why) conversation.lost(ABNORMAL, now, edges.ended(ABNORMAL));
          else if (why.final && !again) conversation.refused(why);
          else conversation.unavailable(why, now, edges.ended(why.status));
        });
      };
    } catch { // no token is available now
      const why = {
        status: ABNORMAL,
        code: "no_token",
        detail: "the function that returns the token has failed",
      };
      step((conversation, now) => conversation.unavailable(why, now));
    }
  }

  /** Ask the application for another token until there is one, or this connection is over. */
  async #renew() {
    const attempt = this.#attempt;
    const [first, longest] = RENEW_WITHIN;
    for (let pause = first; attempt === this.#attempt; pause = Math.min(2 * pause, longest)) {
      try {
        const token = await this.#token();
        if (token && attempt === this.#attempt) this.#step((conversation) => conversation.renew(token));
        return;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
    }
  }

  /** @param {number | undefined} code */
  #disconnect(code) {
    this.#attempt++;
    this.#edges.ended(GONE[0]); // an edge that is silent is gone, as far as this device can know
    this.#socket?.close(code);
    this.#socket = null;
  }
}

/**
 * Connect a device.
 * @param {string | URL | (string | URL)[]} url
 * @param {Options} options
 */
export function connect(url, options) {
  return new Device(url, options);
}

/**
 * Copy an ArrayBuffer or a view of one: the payload is kept, and its owner may overwrite it.
 * @param {ArrayBuffer | ArrayBufferView} data
 */
function copy(data) {
  const view = ArrayBuffer.isView(data)
    ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    : new Uint8Array(data);
  return view.slice();
}

/** @param {string | URL} url */
function endpoint(url) {
  const full = new URL(url, globalThis.location?.href);
  full.protocol = full.protocol.replace("http", "ws");
  full.pathname = full.pathname.replace(/\/*$/, "").replace(/(\/device\/connect)?$/, "/device/connect");
  return full;
}

/**
 * Return the URL with these parameters added to its query; those that are undefined are left out.
 * @param {URL} url
 * @param {object} parameters
 */
function extended(url, parameters) {
  const longer = new URL(url);
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined) longer.searchParams.set(name, value);
  }
  return longer;
}

/**
 * Ask by plain HTTP why a connection was refused, which a WebSocket does not reveal; null: nobody knows.
 * @param {URL} url
 * @param {string | undefined} token
 * @returns {Promise<Refusal | null>}
 */
async function refusal(url, token) {
  const plain = new URL(url);
  plain.protocol = plain.protocol.replace("ws", "http");
  try {
    /** @type {Record<string, string>} */
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const answer = await fetch(plain, { headers, signal: AbortSignal.timeout(OPEN_WITHIN / 2) });
    const { status } = answer;
    if (![...REFUSED, TOO_MANY, UNAVAILABLE].includes(status)) return null;
    const error = (await answer.json().catch(() => null))?.error;
    const own = typeof error?.code === "string" && typeof error.detail === "string";
    const asked = Number(answer.headers.get("Retry-After")) * 1000; // NaN if it is a date
    const retryAfter = asked > 0 ? Math.min(asked, RETRY_AFTER_MAX) : 0;
    const why = own ? error : { code: "refused", detail: `HTTP ${status}: is the server's URL right?` };
    return { ...why, status, retryAfter, final: own && REFUSED.includes(status) };
  } catch {
    return null;
  }
}

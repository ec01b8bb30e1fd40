/**
 * CloudMatch for JavaScript: a device that is matched with another and exchanges payloads with it, each
 * exactly once and in order, over connections that may drop. For browsers and Node; needs nothing else.
 *
 *     const device = connect("http://127.0.0.1:8080", { id: "a", lat: 52.37, lon: 4.89 });
 *     const peer = await device.matched();
 *     await device.send("ciao", { receipt: true }); // resolves when it is in the peer's hands
 *     for await (const payload of device) console.log(`${peer.id} says`, payload);
 *
 * Two halves. `Conversation` knows the protocol, cloudmatch.v1, and nothing else: frames, calls and the time
 * go in, actions come out. `Device` owns what it lacks: the socket, the clock, the timer.
 *
 * The one hard idea: a match outlives connections. What was sent is kept until the server says that the peer
 * has it; what was received is counted. A new connection says how much was received and hears how much was
 * delivered, and both sides send the rest again: nothing is lost, nothing comes twice.
 */

const SUBPROTOCOL = "cloudmatch.v1";

// What may be under way: sent, and not known to be in the peer's hands. One larger payload travels alone.
const WINDOW = 128;
const WINDOW_BYTES = 128 * 1024;

// What the application took is acknowledged after so many payloads, or so many ms.
const ACK_EVERY = 16;
const ACK_WITHIN = 20;

// Times in ms.
const OPEN_WITHIN = 10_000; // for a connection, from nothing to the server's welcome
const SILENCE = 15_000; // without a frame: ask; as long again without an answer: the connection is dead
const LEAVE_WITHIN = 2_000; // for the server to close when the device leaves
const SPREAD = 1_000; // over which the devices of an edge that goes away connect anew
const BACK_OFF = [100, 5_000]; // between attempts to connect: at first, doubling to at most
const BACK_OFF_OVERLOADED = [1_000, 30_000];

// Close codes. Abnormal is what is heard of a connection that breaks.
const [NORMAL, ABNORMAL, OVERLOADED, REPLACED] = [1000, 1006, 1013, 4001];
const GOING_AWAY = [1001, 1012];
const FATAL = {
  1003: "the server does not take binary payloads",
  1007: "a text was not UTF-8",
  1009: "a payload was larger than the server takes",
  [REPLACED]: "a newer connection has this device's id",
  4003: "the token has expired or was revoked",
};

/** Anything that goes wrong with a device. */
export class CloudMatchError extends Error {
  constructor(message, fields) {
    super(message);
    Object.assign(this, fields, { name: new.target.name });
  }
}
/** The server does not let this device in: `status` of HTTP, `code`, `detail`, perhaps `parameter`. */
export class RefusedError extends CloudMatchError {}
/** The device is closed and does not connect again: `code` of the WebSocket's close, `reason`. */
export class ClosedError extends CloudMatchError {}
/** A newer connection has taken the device's id. */
export class ReplacedError extends ClosedError {}
/** There is no peer to send to. */
export class NotMatchedError extends CloudMatchError {}
/** The match ended before the payload was delivered: `peer`, `reason`. */
export class PeerLeftError extends CloudMatchError {}
/** The payload was not taken: `code`, `detail`. */
export class PayloadRefusedError extends CloudMatchError {}

// Phases of the connection. Each ends at a time of its own, `#until`, unless something happens before.
const IDLE = "idle"; // until it is time to connect
const OPENING = "opening"; // until the welcome takes too long
const OPEN = "open"; // until nothing was heard for too long
const ASKED = "asked"; // for a sign of life; until none came for too long
const LEAVING = "leaving"; // until the server takes too long to close
const OVER = "over"; // for ever

/**
 * One device's side of cloudmatch.v1, over all its connections, without I/O.
 *
 * Times are ms of any clock that does not go back. After each call the caller performs `actions` in order
 * and removes them: `{connect: query}`, `{write: frame}`, `{event: {type, …}}`, `{disconnect: code}`. A frame
 * is an object, to be written as JSON, or a Uint8Array. It calls `tick` at `deadline`.
 */
export class Conversation {
  state = "connecting"; // or waiting, matched, closed
  peer = null; // of the present match: {id, distance, match}
  peerAway = false;
  actions = [];

  // the connection, and the session, which outlives connections
  #phase = IDLE;
  #until;
  #random;
  #session = null; // what the last welcome said
  #flowing = false; // the server has said, on this connection, that the match goes on
  #welcomedAt = 0;
  #expires = Infinity; // when the server forgets a session without connection
  #waited = 0; // ms before the last attempt to connect
  #failures = 0; // attempts in a row that were not worth the wait
  #ending = null; // error: why it is over

  // where the device is, if it has moved; what the connection said of that; the match it has asked to leave
  #place = null;
  #placeTold = null;
  #abandoned = undefined;

  // up: what waits for room; what is under way, and its bytes; how many payloads of the match are delivered
  #queue = [];
  #underway = [];
  #underwayBytes = 0;
  #delivered = 0;
  #receipts = 0; // references given

  // down: what waits to be taken; the number of the last payload on this connection; how many of the match
  // have come, were taken, are acknowledged; when the next ack is due
  #inbox = [];
  #last = 0;
  #received = 0;
  #taken = 0;
  #acked = 0;
  #ackAt = Infinity;

  // promises that the application waits for
  #readers = [];
  #hopefuls = [];

  /** `random` gives 0 to 1: it spreads out devices that connect again. */
  constructor(now, random = Math.random) {
    this.#until = now;
    this.#random = random;
  }

  /** When `tick` has something to do. */
  get deadline() {
    return Math.min(this.#until, this.#ackAt, this.#phase === IDLE ? this.#expires : Infinity);
  }

  // -- connections

  /** Do what time demands. */
  tick(now) {
    if (now >= this.#ackAt) this.#ack(this.#taken);
    if (this.#phase === IDLE && now >= this.#expires) {
      this.#session = null;
      this.#expires = Infinity;
      this.#endMatch("expired");
    }
    if (now < this.#until) return;
    if (this.#phase === IDLE) {
      this.#connect(now);
    } else if (this.#phase === OPEN) {
      this.#enter(ASKED, now + SILENCE);
      this.#write({ type: "ping" });
    } else {
      this.actions.push({ disconnect: NORMAL });
      this.dropped(ABNORMAL, now);
    }
  }

  #connect(now) {
    this.#enter(OPENING, now + OPEN_WITHIN);
    this.#placeTold = this.#place;
    const match = this.peer?.match ?? this.#abandoned;
    const received = match === undefined ? 0 : this.#received;
    const resume = this.#session && { resume: this.#session.resume, received, match };
    this.actions.push({ connect: { ...this.#place, ...resume } });
  }

  /** The connection ended with this close code, or did not come about. */
  dropped(code, now) {
    if (this.#phase === OVER) return;
    if (this.#phase === LEAVING || code === NORMAL) return this.close();
    if (FATAL[code]) return this.#end(code, FATAL[code], code === REPLACED ? ReplacedError : ClosedError);
    const lasted = this.#phase === OPENING ? 0 : now - this.#welcomedAt;
    if (this.#session) this.#expires = Math.min(this.#expires, now + this.#session.grace * 1000);
    this.#flowing = false;
    this.#ackAt = Infinity;
    this.#enter(IDLE, now + this.#wait(code, lasted));
    this.#become("connecting");
  }

  /** How long to wait before connecting again. A connection that outlived its wait was worth it. */
  #wait(code, lasted) {
    if (lasted > this.#waited) this.#failures = 0;
    const jitter = this.#random();
    const [first, most] = code === OVERLOADED ? BACK_OFF_OVERLOADED : BACK_OFF;
    this.#waited = GOING_AWAY.includes(code)
      ? SPREAD * jitter
      : Math.min(first * 2 ** this.#failures++, most) * (0.5 + jitter / 2);
    return this.#waited;
  }

  /** The server does not let the device in. */
  refused(why) {
    this.#end(null, why.parameter ? `${why.parameter}: ${why.detail}` : why.detail, RefusedError, why);
  }

  /** A frame has come: a string or a Uint8Array. */
  heard(frame, now) {
    const message = typeof frame === "string" ? JSON.parse(frame) : { type: "binary" };
    if (this.#phase === OPENING && message.type === "welcome") return this.#welcome(message, now);
    if (this.#connected) this.#enter(OPEN, now + SILENCE);
    else if (this.#phase !== LEAVING) return;
    switch (message.type) {
      case "waiting":
        return this.#waiting(message);
      case "matched":
        return this.#matched(message);
      case "resumed":
        return this.#resumed(message, this.#received);
      case "message":
        return this.#arrived(message.text, message.n, now);
      case "binary":
        return this.#arrived(frame, this.#last + 1, now);
      case "ack":
        return this.#deliver(message.delivered - this.#delivered);
      case "receipt":
        return this.#deliver(this.#find(message.ref) + 1);
      case "peer_away":
        return this.#away(true);
      case "peer_back":
        return this.#away(false);
      case "peer_left":
        return this.#endMatch(message.reason);
      case "gap":
        return this.#skip(message.from, message.to, message.reason);
      case "error":
        return this.#complaint(message);
    } // what else a later protocol says is ignored
  }

  #welcome(message, now) {
    this.#enter(OPEN, now + SILENCE);
    this.#session = message;
    this.#welcomedAt = now;
    this.#expires = Infinity; // while there is a connection, the server decides
    if (this.#place !== this.#placeTold) this.#write({ type: "locate", ...this.#place });
  }

  // -- the match

  #waiting({ since }) {
    this.#endMatch("expired");
    this.#become("waiting");
    this.#tell("waiting", { since });
  }

  #matched(message) {
    const { match, peer, distance } = message;
    const known = match === this.peer?.match || match === this.#abandoned;
    if (known) return this.#resumed({ ...message, received: 0 }, 0);
    this.#endMatch("expired");
    this.peer = Object.freeze({ id: peer, distance, match });
    this.#delivered =
      this.#last =
      this.#received =
      this.#taken =
        0;
    this.#flowing = true;
    this.#ack(0);
    this.#become("matched");
    this.#tell("matched", { peer: this.peer });
    for (const { resolve } of this.#hopefuls.splice(0)) resolve(this.peer);
  }

  /** The match goes on; the peer's payloads after number `last` follow. */
  #resumed(message, last) {
    if (message.match === this.#abandoned) return this.#write({ type: "unmatch" });
    if (message.match !== this.peer?.match) return this.#matched(message); // its news came to nobody
    this.peerAway = false;
    this.#last = last;
    this.#become("matched");
    this.#tell("resumed", { peer: this.peer });
    this.#deliver(message.received - this.#delivered);
    this.#flowing = true;
    this.#ack(this.#received);
    for (const { frame } of this.#underway) this.#write(frame);
  }

  #away(away) {
    if (!this.peer || this.peerAway === away) return;
    this.peerAway = away;
    this.#tell(away ? "peerAway" : "peerBack", { peer: this.peer });
  }

  #endMatch(reason) {
    this.#abandoned = undefined;
    if (!this.peer) return;
    const { peer } = this;
    const undelivered = this.#forget(reason);
    this.#become(this.#connected ? "waiting" : "connecting");
    this.#tell("peerLeft", { peer, reason, undelivered });
  }

  /** Forget the match; fail what was not delivered, and give it. */
  #forget(reason, error = new PeerLeftError(`the match ended: ${reason}`, { peer: this.peer, reason })) {
    const undelivered = [...this.#underway.splice(0), ...this.#queue.splice(0)];
    for (const { reject } of undelivered) reject(error);
    this.peer = null;
    this.peerAway = this.#flowing = false;
    this.#underwayBytes = 0;
    this.#ackAt = Infinity;
    return undelivered.map(({ payload }) => payload);
  }

  // -- payloads up

  /** Send a string, or a Uint8Array that nobody changes. Resolves as `Device.send` says. */
  send(payload, receipt = false) {
    const text = typeof payload === "string";
    const size = text ? encoder.encode(payload).length : payload.length;
    const obstacle = this.#ending ?? this.#obstacle(size);
    if (obstacle) return Promise.reject(obstacle);
    const ref = text && receipt ? `${++this.#receipts}` : undefined;
    const frame = text ? { type: "message", text: payload, ref } : payload;
    const fate = later(this.#queue, { payload, size, receipt, ref, frame });
    fate.catch(() => {}); // who does not wait for it hears of it by `peerLeft` or `closed`
    this.#pump();
    return fate;
  }

  #obstacle(size) {
    if (!this.peer) return new NotMatchedError("there is no peer to send to: wait for matched()");
    const most = this.#session.max_payload;
    if (size <= most) return null;
    const detail = `${size} bytes are more than the ${most} allowed`;
    return new PayloadRefusedError(detail, { code: "payload_too_large", detail });
  }

  #pump() {
    while (this.#queue.length && this.#fits(this.#queue[0])) {
      const next = this.#queue.shift();
      this.#underway.push(next);
      this.#underwayBytes += next.size;
      if (this.#flowing) this.#write(next.frame);
      if (!next.receipt) next.resolve();
    }
  }

  #fits({ size }) {
    const count = this.#underway.length;
    return count === 0 || (count < WINDOW && this.#underwayBytes + size <= WINDOW_BYTES);
  }

  /** The first `count` payloads under way are in the peer's hands. */
  #deliver(count) {
    if (count <= 0) return;
    for (const { size, resolve } of this.#underway.splice(0, count)) {
      this.#delivered++;
      this.#underwayBytes -= size;
      resolve();
    }
    this.#pump();
  }

  #find(ref) {
    return ref === undefined ? -1 : this.#underway.findIndex((sent) => sent.ref === ref);
  }

  /** The server did not take a payload, and did not count it; or it complains of something else. */
  #complaint({ code, detail, ref }) {
    const at = this.#find(ref);
    if (at >= 0) {
      const [{ size, reject }] = this.#underway.splice(at, 1);
      this.#underwayBytes -= size;
      reject(new PayloadRefusedError(detail, { code, detail }));
      this.#pump();
    } else if (code !== "not_matched") { // such a payload was under way as its match ended, and failed then
      this.#tell("error", { code, detail });
    }
  }

  // -- payloads down

  #arrived(payload, number, now) {
    this.#last = number;
    if (!this.peer || number <= this.#received) return;
    if (number > this.#received + 1) this.#skip(this.#received + 1, number - 1, "missing");
    this.#received = this.#last = number;
    this.#inbox.push({ payload, number, peer: this.peer });
    this.#readers.shift()?.resolve(this.#take(now));
  }

  /** Payloads `first` to `last` will never arrive. */
  #skip(first, last, reason) {
    if (!this.peer) return;
    this.#last = last;
    this.#received = Math.max(this.#received, last);
    this.#tell("gap", { first, last, reason });
  }

  /** Resolves with the next payload, which is then taken. */
  receive(now) {
    if (this.#inbox.length) return Promise.resolve(this.#take(now));
    if (this.#ending) return Promise.reject(this.#ending);
    return later(this.#readers);
  }

  #take(now) {
    const { payload, number, peer } = this.#inbox.shift();
    if (peer === this.peer) {
      this.#taken = number;
      const fresh = number - this.#acked;
      if (fresh >= ACK_EVERY && this.#flowing) this.#ack(number);
      else if (fresh > 0 && this.#flowing) this.#ackAt = Math.min(this.#ackAt, now + ACK_WITHIN);
    }
    return payload;
  }

  #ack(received) {
    this.#acked = received;
    this.#ackAt = Infinity;
    this.#write({ type: "ack", received, match: this.peer.match });
  }

  // -- the application's other calls

  /** Resolves with the present peer or, if there is none, the next. */
  matched() {
    if (this.peer) return Promise.resolve(this.peer);
    if (this.#ending) return Promise.reject(this.#ending);
    return later(this.#hopefuls);
  }

  /** Leave the match: what was not delivered fails, and nothing more of it is heard. */
  unmatch() {
    if (!this.peer) return;
    this.#abandoned = this.peer.match;
    if (this.#flowing) this.#write({ type: "unmatch" });
    this.#forget("unmatched");
    this.#become(this.#connected ? "waiting" : "connecting");
  }

  move(lat, lon) {
    this.#place = { lat, lon };
    if (this.#connected) this.#write({ type: "locate", lat, lon });
  }

  /** Leave for good; the server closes the connection. */
  leave(now) {
    if (this.#phase === LEAVING) return;
    if (!this.#connected) return this.close();
    this.#write({ type: "leave" });
    this.#enter(LEAVING, now + LEAVE_WITHIN);
  }

  /** Stop here. For its grace the server keeps the match. */
  close() {
    this.#end(NORMAL, "the device is closed", ClosedError);
  }

  // -- both

  get #connected() {
    return this.#phase === OPEN || this.#phase === ASKED;
  }

  #end(code, reason, ErrorType, fields = { code, reason }) {
    if (this.#phase === OVER) return;
    this.#enter(OVER, Infinity);
    this.#ending = new ErrorType(reason, fields);
    const undelivered = this.#forget("closed", this.#ending);
    for (const { reject } of [...this.#readers.splice(0), ...this.#hopefuls.splice(0)]) reject(this.#ending);
    this.actions.push({ disconnect: NORMAL });
    this.#become("closed");
    this.#tell("closed", { code, reason, undelivered, error: code === NORMAL ? null : this.#ending });
  }

  #enter(phase, until) {
    [this.#phase, this.#until] = [phase, until];
  }

  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.#tell("state", { state });
  }

  #tell(type, fields) {
    this.actions.push({ event: { type, ...fields } });
  }
  #write(frame) {
    this.actions.push({ write: frame });
  }
}

const encoder = new TextEncoder();
const OPEN_SOCKET = 1; // `readyState` of a WebSocket through which can be spoken
const LONE_SURROGATE = /\p{Surrogate}/gu; // half a character, which UTF-8 cannot say

/** Give a promise that is kept by whoever takes it from the list. */
function later(list, fields) {
  return new Promise((resolve, reject) => list.push({ ...fields, resolve, reject }));
}

/** A device: a `Conversation` with a socket, a clock and a timer. */
export class Device extends EventTarget {
  #conversation = new Conversation(performance.now());
  #url;
  #token;
  #WebSocket;
  #socket = null;
  #attempt = 0; // number of the connection; what earlier ones still say is not heard
  #timer;
  #timerAt = Infinity;
  #performing = false;

  constructor(url, { token, WebSocket = globalThis.WebSocket, ...parameters }) {
    super();
    if (!WebSocket) throw new TypeError("there is no global WebSocket here: pass one as option");
    this.#url = extended(endpoint(url), parameters);
    this.#token = typeof token === "function" ? token : () => token;
    this.#WebSocket = WebSocket;
    this.#perform();
  }

  // The types, `cloudmatch.d.ts`, say what each of these does.
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
  move(lat, lon) {
    this.#step((conversation) => conversation.move(lat, lon));
  }
  close() {
    this.#step((conversation) => conversation.close());
  }

  send(payload, { receipt = false } = {}) {
    const own = typeof payload === "string" ? payload.replace(LONE_SURROGATE, "\ufffd") : copy(payload);
    return this.#step((conversation) => conversation.send(own, receipt));
  }

  leave() {
    return new Promise((resolve) => {
      this.addEventListener("closed", () => resolve(), { once: true });
      this.#step((conversation, now) => conversation.leave(now));
      if (this.state === "closed") resolve();
    });
  }

  on(type, listener) {
    this.addEventListener(type, listener);
    return () => this.removeEventListener(type, listener);
  }

  async *[Symbol.asyncIterator]() {
    try {
      while (true) yield await this.receive();
    } catch (error) {
      if (error.code !== NORMAL) throw error;
    }
  }

  #step(call) {
    const result = call(this.#conversation, performance.now());
    this.#perform();
    return result;
  }

  /** Perform all actions in order, also those that listeners bring about meanwhile. */
  #perform() {
    if (this.#performing) return;
    this.#performing = true;
    const { actions } = this.#conversation;
    while (actions.length) {
      const { connect, write, event, disconnect } = actions.shift();
      if (connect) this.#connect(connect);
      else if (write) this.#write(write);
      else if (event) this.#dispatch(event);
      else this.#disconnect(disconnect);
    }
    this.#performing = false;
    this.#watch(this.#conversation.deadline);
  }

  /** Write. One that is closing already would only complain: `onclose` follows, which says what becomes of it. */
  #write(frame) {
    if (this.#socket.readyState !== OPEN_SOCKET) return;
    this.#socket.send(frame instanceof Uint8Array ? frame : JSON.stringify(frame));
  }

  /** Tick at `deadline`. A timer that goes off too early does no harm, and is cheaper than a new one. */
  #watch(deadline) {
    if (deadline >= this.#timerAt && deadline < Infinity) return;
    clearTimeout(this.#timer);
    this.#timerAt = deadline;
    if (deadline === Infinity) return;
    this.#timer = setTimeout(() => {
      this.#timerAt = Infinity;
      this.#step((conversation, now) => conversation.tick(now));
    }, deadline - performance.now());
  }

  #dispatch({ type, ...fields }) {
    this.dispatchEvent(Object.assign(new Event(type), fields));
  }

  async #connect(query) {
    const attempt = ++this.#attempt;
    const step = (call) => attempt === this.#attempt && this.#step(call);
    const url = extended(this.#url, query);
    let opened = false;
    try {
      const token = await this.#token();
      if (attempt !== this.#attempt) return;
      const socket = new this.#WebSocket(url.href, token ? [SUBPROTOCOL, `bearer.${token}`] : [SUBPROTOCOL]);
      this.#socket = socket;
      socket.binaryType = "arraybuffer";
      socket.onopen = () => (opened = true);
      socket.onmessage = ({ data }) => {
        const frame = typeof data === "string" ? data : new Uint8Array(data);
        step((conversation, now) => conversation.heard(frame, now));
      };
      socket.onclose = ({ code }) => step((conversation, now) => conversation.dropped(code, now));
      socket.onerror = async () => {
        if (opened) return; // `onclose` follows; after a refusal it does not everywhere
        socket.onclose = null;
        const why = await whyRefused(url, token);
        step((conversation, now) => (why ? conversation.refused(why) : conversation.dropped(ABNORMAL, now)));
      };
    } catch { // there is no token now
      step((conversation, now) => conversation.dropped(ABNORMAL, now));
    }
  }

  #disconnect(code) {
    this.#attempt++;
    this.#socket?.close(code);
    this.#socket = null;
  }
}

/** Connect a device. */
export function connect(url, options) {
  return new Device(url, options);
}

/** Copy an ArrayBuffer or a view of one: it is kept, and its owner may write over it. */
function copy(data) {
  const view = ArrayBuffer.isView(data) ? [data.buffer, data.byteOffset, data.byteLength] : [data];
  return new Uint8Array(...view).slice();
}

function endpoint(url) {
  const full = new URL(url, globalThis.location?.href);
  full.protocol = full.protocol.replace("http", "ws");
  full.pathname = full.pathname.replace(/\/*$/, "").replace(/(\/device\/connect)?$/, "/device/connect");
  return full;
}

function extended(url, parameters) {
  const longer = new URL(url);
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined) longer.searchParams.set(name, value);
  }
  return longer;
}

/** Ask by plain HTTP why a connection was refused, as a WebSocket does not tell; null: not for good. */
async function whyRefused(url, token) {
  const plain = new URL(url);
  plain.protocol = plain.protocol.replace("ws", "http");
  try {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const answer = await fetch(plain, { headers, signal: AbortSignal.timeout(OPEN_WITHIN / 2) });
    if (![400, 401, 403, 404].includes(answer.status)) return null;
    const { error } = await answer.json().catch(() => ({}));
    return { status: answer.status, code: "refused", detail: `HTTP ${answer.status}`, ...error };
  } catch {
    return null;
  }
}

/** A payload that is sent: a text, or bytes, which are copied. */
export type Sendable = string | ArrayBuffer | ArrayBufferView;

/** A payload that has arrived: a text, or bytes. */
export type Payload = string | Uint8Array;

/** Where a device is. Connecting: for the first time, or anew because its connection was lost. */
export type State = "connecting" | "waiting" | "matched" | "closed";

/** Why a match ended. Closed: this device has stopped. */
export type Reason = "left" | "unmatched" | "expired" | "replaced" | "closed";

/** The device at the other end of a match. */
export interface Peer {
  readonly id: string;
  /** In metres. */
  readonly distance: number;
  /** Number of the match. */
  readonly match: number;
}

export interface Options {
  /** 1 to 64 characters, unique within the app: a newer connection of the same id ends the older. */
  id: string;
  /** Degrees, -90 to 90. */
  lat: number;
  /** Degrees, -180 to 180. */
  lon: number;
  /** Devices of different apps never see each other. Default: `default`. */
  app?: string;
  /** How far away a partner may be, in metres. Default: the server's rule. */
  radius?: number;
  /** Only devices of an equal tag match. */
  tag?: string;
  /** A JWT, or what gives one, asked at every connection; only where the server demands it. */
  token?: string | (() => string | Promise<string>);
  /** The class of WebSockets, where there is no global one: that of the package `ws` in Node before 22. */
  WebSocket?: new (url: string, protocols: string[]) => unknown;
}

/** What a device tells, by type. Each is an `Event` with these fields. */
export interface DeviceEvents {
  /** The device is in another state. */
  state: { readonly state: State };
  /** The device is in the pool, since a time in ms since 1970. */
  waiting: { readonly since: number };
  /** There is a peer. */
  matched: { readonly peer: Peer };
  /** The connection was lost and is back; the same match goes on and nothing is missing. */
  resumed: { readonly peer: Peer };
  /** The peer's connection dropped; what is sent waits for its return. */
  peerAway: { readonly peer: Peer };
  /** The peer returned. */
  peerBack: { readonly peer: Peer };
  /** The match is over; `undelivered` are all payloads not known to have arrived, oldest first. */
  peerLeft: { readonly peer: Peer; readonly reason: Reason; readonly undelivered: Payload[] };
  /** Payloads `first` to `last` of the match, both included, can never arrive. */
  gap: { readonly first: number; readonly last: number; readonly reason: string };
  /** The server did not understand or accept something; the device lives on. */
  error: { readonly code: string; readonly detail: string };
  /**
   * The device stops and does not connect again. `code` is that of the WebSocket's close, 1000 where the
   * application wanted it, null where the server did not let the device in; `error` is null for 1000.
   */
  closed: {
    readonly code: number | null;
    readonly reason: string;
    readonly undelivered: Payload[];
    readonly error: RefusedError | ClosedError | null;
  };
}

export type DeviceEvent<Type extends keyof DeviceEvents> =
  & Event
  & { readonly type: Type }
  & DeviceEvents[Type];

/** Connect a device. `url` is that of an edge, of http, https, ws or wss: `https://edge.example`. */
export function connect(url: string | URL, options: Options): Device;

/**
 * A device. It connects by itself, and again whenever its connection is lost, and then goes on with its match.
 * Iterating it gives payloads, until the device is closed; throws what ended it, unless the application did.
 */
export class Device extends EventTarget implements AsyncIterable<Payload> {
  constructor(url: string | URL, options: Options);

  readonly state: State;
  /** The present peer, or null. */
  readonly peer: Peer | null;
  /** Whether the peer's connection has dropped, and may return. */
  readonly peerAway: boolean;

  /** Resolve with the present peer or, if there is none, the next. */
  matched(): Promise<Peer>;

  /**
   * Send a payload to the peer. Resolves once it is under way (128 payloads or 128 KiB are at most; the next one
   * waits) or, with `receipt`, once the peer's application has it. A lost connection only delays that.
   *
   * Rejects with NotMatchedError, PayloadRefusedError, PeerLeftError, or with what closed the device.
   */
  send(payload: Sendable, options?: { receipt?: boolean }): Promise<void>;

  /**
   * Resolve with the next payload. It counts as taken then: a device that takes nothing slows its peer down.
   * A call that nobody waits for any more still takes one.
   */
  receive(): Promise<Payload>;

  [Symbol.asyncIterator](): AsyncGenerator<Payload, void, undefined>;

  /** Leave the match and wait for another. What was not delivered fails; nothing more of the match is heard. */
  unmatch(): void;

  /** Be elsewhere. Changes whom the device can be matched with next, not the present match. */
  move(lat: number, lon: number): void;

  /** Leave for good; resolve when that is done. What was not delivered fails: wait for its receipt before. */
  leave(): Promise<void>;

  /** Stop at once, as if the connection had dropped: for the server's grace the peer waits. */
  close(): void;

  /** Call `listener` at each event of a type; give a function that ends that. */
  on<Type extends keyof DeviceEvents>(type: Type, listener: (event: DeviceEvent<Type>) => void): () => void;

  addEventListener<Type extends keyof DeviceEvents>(
    type: Type,
    listener: (event: DeviceEvent<Type>) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<Type extends keyof DeviceEvents>(
    type: Type,
    listener: (event: DeviceEvent<Type>) => void,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | EventListenerOptions,
  ): void;
}

/** Anything that goes wrong with a device. */
export class CloudMatchError extends Error {}

/** The server does not let this device in: a parameter or a token is wrong. */
export class RefusedError extends CloudMatchError {
  /** Of HTTP. */
  readonly status: number;
  readonly code: string;
  readonly detail: string;
  /** The one that is wrong. */
  readonly parameter?: string;
}

/** The device is closed and does not connect again. */
export class ClosedError extends CloudMatchError {
  /** Of the WebSocket's close. */
  readonly code: number;
  readonly reason: string;
}

/** A newer connection has taken the device's id. */
export class ReplacedError extends ClosedError {}

/** There is no peer to send to. */
export class NotMatchedError extends CloudMatchError {}

/** The match ended before the payload was delivered. */
export class PeerLeftError extends CloudMatchError {
  readonly peer: Peer;
  readonly reason: Reason;
}

/** The payload was not taken: it is too large, or there are too many. */
export class PayloadRefusedError extends CloudMatchError {
  /** Of the protocol: `payload_too_large`, `rate_limited`. */
  readonly code: string;
  readonly detail: string;
}

/** A frame: an object, to be written as JSON, or a payload. */
export type Frame = { readonly type: string; readonly [field: string]: unknown } | Uint8Array;

/** What the caller of a `Conversation` is to do. */
export interface Action {
  /** Open a connection, with this in its query beside who the device is. */
  connect?: { lat?: number; lon?: number; resume?: string; received?: number; match?: number };
  write?: Frame;
  event?: { [Type in keyof DeviceEvents]: { type: Type } & DeviceEvents[Type] }[keyof DeviceEvents];
  /** End the connection, with this close code. */
  disconnect?: number;
}

/**
 * The protocol without I/O, for whoever has another socket or clock. Times are ms of any clock that does not
 * go back. After each call, perform `actions` in order and remove them; call `tick` at `deadline`.
 */
export class Conversation {
  constructor(now: number, random?: () => number);
  readonly state: State;
  readonly peer: Peer | null;
  readonly peerAway: boolean;
  readonly actions: Action[];
  readonly deadline: number;
  tick(now: number): void;
  dropped(code: number, now: number): void;
  refused(why: { status: number; code: string; detail: string; parameter?: string }): void;
  heard(frame: string | Uint8Array, now: number): void;
  matched(): Promise<Peer>;
  send(payload: Payload, receipt?: boolean): Promise<void>;
  receive(now: number): Promise<Payload>;
  unmatch(): void;
  move(lat: number, lon: number): void;
  leave(now: number): void;
  close(): void;
}

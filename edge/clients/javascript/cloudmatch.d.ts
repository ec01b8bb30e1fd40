/** A payload to send: text, or bytes, which are copied. */
export type Sendable = string | ArrayBuffer | ArrayBufferView;

/** A received payload: text or bytes. */
export type Payload = string | Uint8Array;

/** State of a device. Connecting: for the first time, or again after its connection was lost. */
export type State = "connecting" | "waiting" | "matched" | "closed";

/** Why a match ended. Closed: this device was closed. */
export type Reason = "left" | "unmatched" | "expired" | "replaced" | "closed";

/** The device at the other end of a match. */
export interface Peer {
  readonly id: string;
  /** Metres, as told: rounded to kilometres unless the server is set otherwise; 0: not told. */
  readonly distance: number;
  /** Number of the match. */
  readonly match: number;
}

export interface Options {
  /** 1 to 64 characters, unique within the app: a newer connection with the same id replaces the older. */
  id: string;
  /** Degrees, -90 to 90. */
  lat: number;
  /** Degrees, -180 to 180. */
  lon: number;
  /** Devices of different apps never see each other. Default: `default`. */
  app?: string;
  /** How far away a peer may be, in metres. Default: the server's setting. */
  radius?: number;
  /** Only devices with equal tags match. */
  tag?: string;
  /**
   * A JWT, or a function that returns one, called for every connection and when the server says that the token
   * expires; only if the server requires it.
   */
  token?: string | (() => string | undefined | Promise<string | undefined>);
  /** The WebSocket class, if there is no global one: in Node before 22, that of the package `ws`. */
  WebSocket?: new (url: string, protocols: string[]) => unknown;
}

/** The events of a device, by type. Each is an `Event` with these fields. */
export interface DeviceEvents {
  /** The device's state has changed. */
  state: { readonly state: State };
  /** The device has waited in the pool since this time (ms since 1970). */
  waiting: { readonly since: number };
  /** The device is matched with a peer. */
  matched: { readonly peer: Peer };
  /** The connection was lost and restored; the match continues and nothing is missing. */
  resumed: { readonly peer: Peer };
  /** The peer is disconnected; payloads wait for its return. */
  peerAway: { readonly peer: Peer };
  /** The peer is connected again. */
  peerBack: { readonly peer: Peer };
  /** The match ended; `undelivered` holds all payloads not known to be delivered, oldest first. */
  peerLeft: { readonly peer: Peer; readonly reason: Reason; readonly undelivered: Payload[] };
  /** Payloads `first` to `last` of the match (inclusive) can never arrive. */
  gap: { readonly first: number; readonly last: number; readonly reason: string };
  /**
   * The server rejected a message, and the device stays connected; or it accepts no device at present, and the
   * device tries again (`edge_full`, `not_ready`, `too_many_connections`, `app_quota`, `rate_limited`), or
   * its function has no token (`no_token`).
   */
  error: { readonly code: string; readonly detail: string };
  /** The token expires in so many seconds; the device asks its function for another, if it has one. */
  tokenExpires: { readonly seconds: number };
  /**
   * The device is closed and does not reconnect. `code` is the WebSocket's close code: 1000 if the application
   * closed it, null if the server did not admit the device; `error` is null for 1000.
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

/**
 * Connect a device. `url` is an edge's http, https, ws or wss address, `https://edge.example`, or those of several
 * edges, in order of preference: if one is full or cannot be reached, the device connects to the next.
 */
export function connect(url: string | URL | (string | URL)[], options: Options): Device;

/**
 * A device. It connects automatically, reconnects whenever its connection is lost, and then resumes its match.
 * Iterating it yields payloads until the device is closed, and throws the error that closed it, unless the
 * application did.
 */
export class Device extends EventTarget implements AsyncIterable<Payload> {
  constructor(url: string | URL | (string | URL)[], options: Options);

  readonly state: State;
  /** The present peer, or null. */
  readonly peer: Peer | null;
  /** Whether the peer is disconnected and may return. */
  readonly peerAway: boolean;

  /** Resolve with the present peer or, if there is none, the next. */
  matched(): Promise<Peer>;

  /**
   * Send a payload to the peer. Resolves once it is in flight (at most 128 payloads or 128 KiB are; the next one
   * waits) or, with `receipt`, once the peer's application has taken it. A lost connection only delays that.
   *
   * Rejects with NotMatchedError, PayloadRefusedError, PeerLeftError, or the error that closed the device.
   */
  send(payload: Sendable, options?: { receipt?: boolean }): Promise<void>;

  /**
   * Resolve with the next payload, which then counts as taken: a device that takes nothing slows its peer down.
   * A call whose promise is abandoned still takes one.
   */
  receive(): Promise<Payload>;

  [Symbol.asyncIterator](): AsyncGenerator<Payload, void, undefined>;

  /** Leave the match and wait for another. Undelivered payloads fail; nothing more of the match is received. */
  unmatch(): void;

  /** Change the position. This affects the next match, not the present one. */
  move(lat: number, lon: number): void;

  /** Leave for good; resolve when done. Undelivered payloads fail: await their receipts first. */
  leave(): Promise<void>;

  /** Stop at once, as if the connection had dropped: the peer waits for the server's grace. */
  close(): void;

  /** Call `listener` for each event of a type; return a function that removes it. */
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

/** Any failure of a device. */
export class CloudMatchError extends Error {}

/** The server does not admit this device: a parameter or the token is wrong. */
export class RefusedError extends CloudMatchError {
  /** HTTP status. */
  readonly status: number;
  readonly code: string;
  readonly detail: string;
  /** The wrong parameter. */
  readonly parameter?: string | undefined;
  /** What is wrong with the token: expired, signature, … */
  readonly reason?: string | undefined;
}

/** The device is closed and does not reconnect. */
export class ClosedError extends CloudMatchError {
  /** The WebSocket's close code. */
  readonly code: number;
  readonly reason: string;
}

/** A newer connection has taken over the device's id. */
export class ReplacedError extends ClosedError {}

/** There is no peer to send to. */
export class NotMatchedError extends CloudMatchError {}

/** The match ended before the payload was delivered. */
export class PeerLeftError extends CloudMatchError {
  readonly peer: Peer;
  readonly reason: Reason;
}

/** The server refused the payload: it is too large, or there are too many. */
export class PayloadRefusedError extends CloudMatchError {
  /** `payload_too_large` or `rate_limited`. */
  readonly code: string;
  readonly detail: string;
}

/** A frame: an object, to be written as JSON, or a binary payload. */
export type Frame = { readonly type: string; readonly [field: string]: unknown } | Uint8Array;

/** An action for the caller of a `Conversation` to perform. */
export interface Action {
  /** Open a connection with this query, in addition to the device's own parameters. */
  connect?: { lat?: number; lon?: number; resume?: string; received?: number; match?: number | undefined };
  write?: Frame;
  event?: { [Type in keyof DeviceEvents]: { type: Type } & DeviceEvents[Type] }[keyof DeviceEvents];
  /** Close the connection with this code. */
  disconnect?: number;
}

/**
 * The protocol without I/O, for use with another socket or clock. Times are ms of any clock that does not go
 * back. After each call, perform `actions` in order and remove them; call `tick` at `deadline`.
 */
export class Conversation {
  constructor(now: number, random?: () => number);
  readonly state: State;
  readonly peer: Peer | null;
  readonly peerAway: boolean;
  readonly actions: Action[];
  readonly deadline: number;
  /** Whether another token can be had: then the end of one does not close the device. */
  renews: boolean;
  tick(now: number): void;
  renew(token: string): void;
  /** `elsewhere`: whether there is another edge to connect to at once. */
  lost(code: number, now: number, elsewhere?: boolean): void;
  refused(
    why: { status: number; code: string; detail: string; parameter?: string; reason?: string },
  ): void;
  /** The server accepts no connection for at least `retryAfter` ms. */
  unavailable(
    why: { status: number; code: string; detail: string; retryAfter?: number },
    now: number,
    elsewhere?: boolean,
  ): void;
  onFrame(frame: string | Uint8Array, now: number): void;
  matched(): Promise<Peer>;
  send(payload: Payload, receipt?: boolean): Promise<void>;
  receive(now: number): Promise<Payload>;
  unmatch(): void;
  move(lat: number, lon: number): void;
  leave(now: number): void;
  close(): void;
}

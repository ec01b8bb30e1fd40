/** Frames as lines of a log. Pure. */

import { bytes, size } from "./words.js";

const QUIET = new Set(["ack", "ping", "pong"]);

/**
 * Describe a frame of a dialect: `{type, text, quiet}`. `type` is the message type of `cloudmatch.v1`, `text` or
 * `binary`; `text` is the rest; `quiet` frames are acks and pings.
 */
export function describe(data, dialect) {
  if (typeof data !== "string") return { type: "binary", text: bytes(data.length), quiet: false };
  if (dialect === "classic") return { type: "text", text: data, quiet: false };
  let message;
  try {
    message = JSON.parse(data);
  } catch {
    return { type: "text", text: data, quiet: false };
  }
  if (typeof message?.type !== "string") return { type: "text", text: data, quiet: false };
  const { type, ...fields } = message;
  return { type, text: summary(type, fields), quiet: QUIET.has(type) };
}

function summary(type, { text, ...fields }) {
  const rest = Object.entries(fields).map(([name, value]) =>
    `${name} ${typeof value === "string" ? value : JSON.stringify(value)}`
  );
  if (type === "message") return [text, rest.length && `(${rest.join(", ")})`].filter(Boolean).join("  ");
  if (text !== undefined) rest.push(`text ${text}`);
  return rest.join(", ");
}

/** A line of a copied log: time, direction, size, and the raw frame; binary as hexadecimal. */
export function line({ at, way, data }) {
  const arrow = { out: "→", in: "←" }[way] ?? "·";
  const amount = way === "out" || way === "in" ? `${bytes(size(data))}\t` : "";
  const raw = typeof data === "string" ? data : `binary ${hex(data)}`;
  return `${new Date(at).toISOString()}\t${arrow}\t${amount}${raw}`;
}

function hex(data) {
  const head = Array.from(data.subarray(0, 64), (byte) => byte.toString(16).padStart(2, "0")).join("");
  return data.length > 64 ? `${head}…` : head;
}

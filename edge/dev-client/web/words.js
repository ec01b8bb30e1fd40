/** Figures and times for people. Pure. */

const whole = new Intl.NumberFormat("en");

/** `1` "device" → "1 device"; `1200` → "1,200 devices". */
export function count(number, one, many = `${one}s`) {
  return `${whole.format(number)} ${number === 1 ? one : many}`;
}

export const bytes = (number) => count(number, "byte");

/** Metres, as told → ", 850 m away"; "" if they are not told. */
export function away(metres, word = "away") {
  return metres ? `, ${distance(metres)} ${word}` : "";
}

/** Metres → "0.35 m", "850 m", "111 km". */
export function distance(metres) {
  if (metres < 10) return `${metres.toFixed(2)} m`;
  return metres < 10_000
    ? `${whole.format(Math.round(metres))} m`
    : `${whole.format(Math.round(metres / 1000))} km`;
}

/** ms since a start → "+12 ms", "+3.214 s". */
export function since(ms) {
  return ms < 1000 ? `+${Math.round(ms)} ms` : `+${(ms / 1000).toFixed(3)} s`;
}

/** ms since 1970 → "14:03:21.482", local. */
export function clock(at, { millis = true } = {}) {
  const time = new Date(at);
  const two = (number) => String(number).padStart(2, "0");
  const text = [time.getHours(), time.getMinutes(), time.getSeconds()].map(two).join(":");
  return millis ? `${text}.${String(time.getMilliseconds()).padStart(3, "0")}` : text;
}

/** The first `most` characters of a text, and how many follow. */
export function clipped(text, most) {
  const end = /[\ud800-\udbff]/.test(text[most - 1] ?? "") ? most - 1 : most; // never half a character
  return text.length <= most
    ? { head: text, rest: 0 }
    : { head: text.slice(0, end), rest: text.length - end };
}

const encoder = new TextEncoder();

/** Size of a payload or frame, a string or Uint8Array, in bytes. */
export const size = (data) => (typeof data === "string" ? encoder.encode(data).length : data.length);

/** Devices' set-ups, and their form in the page's address. Pure. */

/** The four devices of 2019. Fields are text as typed; "" means the default. */
export const DEFAULT = "a@1,1&b@1,3&c@1,2&d@1,5";
const FURTHER = ["app", "tag", "radius", "dialect", "edge"];

/** Parse set-ups from a fragment: `a@1,1&c@1,2;radius=250000;dialect=classic`. */
export function read(fragment) {
  return fragment.replace(/^#/, "").split("&").filter(Boolean).flatMap((text) => {
    const [whole, ...further] = text.split(";");
    const found = /^([^@]*)@([^,]*),([^,]*)$/.exec(whole);
    if (!found) return [];
    const [id, lat, lon] = found.slice(1).map(decode);
    const given = Object.fromEntries(further.map((each) => each.split("=", 2).map(decode)));
    return [complete({ id, lat, lon, ...given })];
  });
}

/** Format set-ups as a fragment, without `#`. */
export function write(setups) {
  return setups.map((setup) => {
    const { id, lat, lon } = setup;
    const further = FURTHER.filter((name) => setup[name] !== complete({})[name]);
    const more = further.map((name) => `;${name}=${encodeURIComponent(setup[name])}`);
    return `${encodeURIComponent(id)}@${encodeURIComponent(lat)},${encodeURIComponent(lon)}${more.join("")}`;
  }).join("&");
}

/** A set-up of these fields and the defaults; unknown fields are dropped. */
export function complete(
  { id = "", lat = "", lon = "", app = "", tag = "", radius = "", dialect = "v1", edge = "" },
) {
  return { id, lat, lon, app, tag, radius, dialect: dialect === "classic" ? "classic" : "v1", edge };
}

function decode(text) {
  try {
    return decodeURIComponent(text ?? "");
  } catch { // a lone %
    return text;
  }
}

/** The first free id: a to z, then device-27 and so on. */
export function freeId(taken) {
  const letters = [..."abcdefghijklmnopqrstuvwxyz"];
  for (let number = taken.length + 1;; number++) {
    const id = letters.find((letter) => !taken.includes(letter)) ?? `device-${number}`;
    if (!taken.includes(id)) return id;
  }
}

/** What is wrong with a set-up: [field, sentence], or null. The edge applies the same rules. */
export function fault({ id, lat, lon, app, tag, radius }) {
  const number = (text) => (/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : NaN);
  const long = (text) => [...text].length > 64;
  if (!id || long(id)) return ["id", "Id: 1 to 64 characters."];
  if (!(Math.abs(number(lat)) <= 90)) return ["lat", "Latitude: −90 to 90 degrees."];
  if (!(Math.abs(number(lon)) <= 180)) return ["lon", "Longitude: −180 to 180 degrees."];
  if (radius && !(number(radius) > 0 && number(radius) < Infinity)) {
    return ["radius", "Radius: metres, more than 0."];
  }
  if (long(app)) return ["app", "App: up to 64 characters."];
  if (long(tag)) return ["tag", "Tag: up to 64 characters."];
  return null;
}

/** The http or https address to connect to. */
export function address(setup, edge) {
  const base = /^\w+:\/\//.test(edge) ? edge.replace(/^ws/i, "http") : `http://${edge}`;
  const url = new URL(base.replace(/\/*$/, "/device/connect"));
  for (const name of ["id", "lat", "lon", "app", "tag", "radius"]) {
    if (setup[name]) url.searchParams.set(name, setup[name]);
  }
  return url.href;
}

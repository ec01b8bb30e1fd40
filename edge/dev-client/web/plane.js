/** The map's geometry: degrees to pixels and back. Plain latitude and longitude, each with one scale. Pure. */

export const REACH = 1.42; // degrees: how far a device without a radius reaches, in this plane
const DEGREE = 111_195; // metres

/**
 * How far a device reaches, in degrees of latitude (`high`) and longitude (`wide`).
 * @param {{ lat?: number, radius?: number }} device
 */
export function reach({ lat, radius }) {
  if (!(radius > 0)) return { high: REACH, wide: REACH };
  const high = Math.min(radius / DEGREE, 180);
  return { high, wide: Math.min(high / Math.max(Math.cos((lat * Math.PI) / 180), 0.01), 360) };
}

/** The part of the plane that shows all positions, and their reach unless it is out of proportion. */
export function bounds(places) {
  if (!places.length) return { west: -180, east: 180, south: -90, north: 90 };
  const range = (name) => [Math.min(...places.map((p) => p[name])), Math.max(...places.map((p) => p[name]))];
  const [[south, north], [west, east]] = [range("lat"), range("lon")];
  const reaches = places.map((place) => Math.max(...Object.values(reach(place))));
  const spread = Math.max(north - south, east - west);
  const most = Math.max(spread * 0.75, Math.min(...reaches) * 1.1, 1e-6);
  const room = Math.min(Math.max(...reaches) * 1.05, most);
  return { west: west - room, east: east + room, south: south - room, north: north + room };
}

/**
 * How much narrower a degree of longitude is drawn than one of latitude: as on earth if every device has a radius in
 * metres, so that reach is a circle; not at all if some use the rule of 2019, which is on a plane.
 */
export function squeeze(places) {
  if (!places.length || !places.every(({ radius }) => radius > 0)) return 1;
  const middle = places.reduce((sum, { lat }) => sum + lat, 0) / places.length;
  return Math.max(Math.cos((middle * Math.PI) / 180), 0.1);
}

/**
 * A view with all of `bounds` centred in a picture of `width` × `height` pixels. `high` and `wide` are the pixels per
 * degree of latitude and of longitude.
 */
export function view({ west, east, south, north }, width, height, narrow = 1, margin = 12) {
  const high = Math.min(
    (width - 2 * margin) / ((east - west) * narrow),
    (height - 2 * margin) / (north - south),
  );
  const wide = high * narrow;
  const [lon, lat] = [(west + east) / 2, (south + north) / 2];
  return {
    high,
    wide,
    x: (of) => width / 2 + (of - lon) * wide,
    y: (of) => height / 2 - (of - lat) * high,
    lon: (x) => lon + (x - width / 2) / wide,
    lat: (y) => lat - (y - height / 2) / high,
  };
}

/** A round number of at least `least`: 1, 2 or 5 times a power of ten. */
export function round(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((of) => of * power).find((number) => number >= least * (1 - 1e-9));
}

/** The numbers at which to draw grid lines, `step` apart. */
export function ticks(from, to, step) {
  const first = Math.ceil(from / step);
  return Array.from({ length: Math.max(0, Math.floor(to / step) - first + 1) }, (_, i) => (first + i) * step);
}

/** Format degrees with the precision of a grid step. */
export function degrees(number, step) {
  const digits = Math.min(Math.max(0, -Math.floor(Math.log10(step) + 1e-9)), 7);
  return `${(Number(number.toFixed(digits)) || 0).toFixed(digits)}°`;
}

/** A round length for the scale bar, at most `most` pixels: {metres, pixels}, along the parallel at `lat`. */
export function ruler({ wide }, lat, most) {
  const perPixel = (DEGREE * Math.max(Math.cos((lat * Math.PI) / 180), 0.01)) / wide;
  const metres = [5, 2, 1].map((of) => of * 10 ** Math.floor(Math.log10(most * perPixel))).find((m) =>
    m <= most * perPixel
  );
  return { metres, pixels: metres / perPixel };
}

/** The position of a pixel, rounded to the resolution of a pixel. */
export function place(seen, x, y) {
  const digits = Math.min(Math.max(0, Math.ceil(Math.log10(seen.high))), 7);
  const clamp = (number, most) => Number(Math.max(-most, Math.min(most, number)).toFixed(digits)) || 0;
  return { lat: clamp(seen.lat(y), 90), lon: clamp(seen.lon(x), 180) };
}

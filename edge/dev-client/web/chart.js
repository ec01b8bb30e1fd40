/** The windows of analytics as a bar chart. */

import { make } from "./dom.js";
import { bytes, clock, count } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const [HEIGHT, TOP, FOOT] = [150, 18, 20]; // px
export const SHOWN = 30;

/** Return the heights of the bars, 0 to 1, and the round number of bytes at the top of the chart. Pure. */
export function heights(windows) {
  const most = Math.max(1, ...windows.map((window) => window.bytes));
  const power = 10 ** Math.floor(Math.log10(most));
  const top = [1, 2, 5, 10].map((of) => of * power).find((number) => number >= most);
  return { top, bars: windows.map((window) => window.bytes / top) };
}

/** Describe a window. */
export const sentence = (window) =>
  `${clock(window.start, { millis: false })} to ${clock(window.end, { millis: false })}: ${
    bytes(window.bytes)
  } in ${count(window.messages, "payload")}`;

/** Draw closed windows, oldest first, and the open one into `svg`; their rows into `table`. */
export function draw(svg, table, closed, running) {
  const follows = running && (!closed.length || running.start >= closed.at(-1).end);
  const windows = [...closed, ...(follows ? [running] : [])].slice(-SHOWN);
  const { top, bars } = heights(windows);
  const width = svg.clientWidth || 600;
  const wide = width / SHOWN;
  const base = HEIGHT - FOOT;
  const shapes = [line(TOP), line(base), text(2, TOP - 5, bytes(top)), text(width, HEIGHT - 5, "now", "end")];
  windows.forEach((window, i) => {
    const x = width - (windows.length - i) * wide;
    const high = bars[i] * (base - TOP);
    const bar = shape("rect", {
      x: x + wide * 0.15,
      width: wide * 0.7,
      y: base - Math.max(high, 1),
      height: Math.max(high, 1),
      rx: Math.min(2, high / 2),
    });
    bar.classList.toggle("running", window === running);
    bar.classList.toggle("nothing", !window.bytes);
    bar.append(shape("title", {}, sentence(window)));
    shapes.push(bar);
    if ((windows.length - i) % 6 === 0 && x < width - 80) {
      shapes.push(text(x, HEIGHT - 5, clock(window.start, { millis: false }).slice(0, 8)));
    }
  });
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  svg.replaceChildren(...shapes);
  const total = windows.reduce((sum, window) => sum + window.bytes, 0);
  svg.setAttribute(
    "aria-label",
    `Bytes in windows of 10 seconds, the last ${windows.length}: ${bytes(total)} in all`,
  );
  table.replaceChildren(
    ...windows.toReversed().map((window) =>
      make(
        "tr",
        {},
        make("td", {}, clock(window.start, { millis: false })),
        make("td", {}, window === running ? "open" : clock(window.end, { millis: false })),
        make("td", {}, window.bytes.toLocaleString("en")),
        make("td", {}, window.messages.toLocaleString("en")),
      )
    ),
  );
}

const line = (y) => shape("line", { x1: 0, x2: "100%", y1: y, y2: y });
const text = (x, y, content, anchor = "start") => shape("text", { x, y, "text-anchor": anchor }, content);

function shape(tag, attributes, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

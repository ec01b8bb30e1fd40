/** A device's log: its frames in both directions, with sizes and times. */

import { at, coalesced, copy, make } from "./dom.js";
import { describe, line } from "./frames.js";
import { KEPT } from "./device.js";
import { bytes, clipped, clock, since, size } from "./words.js";

const LONG = 240; // characters shown of a frame at first
const ARROW = {
  out: ["→", "sent"],
  in: ["←", "received"],
  done: ["✓", "delivered"],
  bad: ["!", "problem"],
  note: ["·", "note"],
};

export class Log {
  #fresh = [];
  #list = make("ol", { tabIndex: 0 });

  constructor(device) {
    this.device = device;
    this.draw = coalesced(() => this.#draw());
    const copyButton = make("button.small", {
      type: "button",
      onclick: () => copy(device.log.map(line).join("\n"), copyButton),
    }, "Copy");
    const clear = make("button.small", { type: "button", onclick: () => this.#clear() }, "Clear");
    this.node = make(
      "div.log",
      {},
      make("div.bar", {}, make("h4", {}, "Log"), copyButton, clear),
      this.#list,
    );
    device.addEventListener("entry", ({ entry }) => {
      this.#fresh.push(entry);
      if (this.#fresh.length > KEPT) this.#fresh.shift();
      this.draw();
    });
    device.addEventListener(
      "change",
      () => this.#list.setAttribute("aria-label", `Log of device ${device.setup.id}`),
    );
    this.#list.setAttribute("aria-label", `Log of device ${device.setup.id}`);
  }

  #clear() {
    this.device.log.length = 0;
    this.#list.replaceChildren();
  }

  #draw() {
    const list = this.#list;
    const follows = list.scrollTop + list.clientHeight >= list.scrollHeight - 8;
    list.append(...this.#fresh.splice(0).map(row));
    while (list.childElementCount > KEPT) list.firstElementChild.remove();
    if (follows) list.scrollTop = list.scrollHeight;
  }
}

function row(entry) {
  const { way, data, dialect } = entry;
  const framed = way === "in" || way === "out";
  const { type, text, quiet } = framed ? describe(data, dialect) : { type: "", text: data, quiet: false };
  const [arrow, meaning] = ARROW[way];
  const times = make(
    "time",
    { title: new Date(entry.at).toISOString() },
    make("span.relative", {}, since(entry.since)),
    make("span.local", {}, clock(entry.at)),
  );
  const content = make("span.content", {}, type && make("b", {}, type), type && " ", ...shown(text));
  if (type === "binary") content.append(" ", download(entry));
  const amount = framed
    ? make("span.size", { title: bytes(size(data)) }, `${size(data).toLocaleString("en")} B`)
    : null;
  const node = make(
    `li.${way}`,
    {},
    times,
    make("i", { "aria-hidden": "true" }, arrow),
    make("span.visually-hidden", {}, meaning),
    content,
    amount,
  );
  if (quiet) node.classList.add("quiet");
  return node;
}

/** A text, shortened with a button that shows the rest. */
function shown(text) {
  const { head, rest } = clipped(text, LONG);
  if (!rest) return [text];
  const whole = document.createTextNode(head);
  const more = make("button.small", { type: "button" }, `… ${rest.toLocaleString("en")} more characters`);
  more.onclick = () => {
    whole.data = text;
    more.remove();
  };
  return [whole, " ", more];
}

function download({ data, at: when }) {
  const save = () => {
    const url = URL.createObjectURL(new Blob([data]));
    make("a", { href: url, download: `payload-${clock(when).replaceAll(":", "-")}.bin` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  };
  return make("button.small", { type: "button", onclick: save }, "Download");
}

/** Apply the page's log options. */
export function applyOptions() {
  const set = () => {
    document.body.classList.toggle("local-times", at("times").value === "local");
    document.body.classList.toggle("all-frames", at("all-frames").checked);
    for (const list of document.querySelectorAll(".log ol")) list.scrollTop = list.scrollHeight;
  };
  at("times").onchange = at("all-frames").onchange = set;
  set();
}

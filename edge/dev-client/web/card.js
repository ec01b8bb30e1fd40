/** A device's card: set-up, state, actions, why it has no match, log. */

import { obstacle, remedy } from "./advice.js";
import { announce, coalesced, copy, make, setText } from "./dom.js";
import { Log } from "./log.js";
import { snippets } from "./snippets.js";
import { away, bytes, clipped, count } from "./words.js";

/** @type {[string, string, object][]} name, label, properties of the input */
const FIELDS = [
  ["id", "Id", {}],
  ["lat", "Latitude", { inputMode: "text" }],
  ["lon", "Longitude", { inputMode: "text" }],
  ["app", "App", { placeholder: "default" }],
  ["tag", "Tag", { placeholder: "none" }],
  ["radius", "Radius (m)", { placeholder: "1.42°", inputMode: "decimal" }],
];

const NEAREST = 3; // neighbours shown for a device without a match
let number = 0; // of cards made, for ids

function shortened(id) {
  const { head, rest } = clipped(id, 24);
  return rest ? `${head}…` : head;
}

export class Card {
  #parts = {};
  #clock;
  #sentence = "";

  /** Calls `changed` when the set-up changes and `removed` when the device is to be removed. */
  constructor(device, hue, { changed, removed, edges }) {
    this.device = device;
    this.edges = edges;
    this.name = `card-${++number}`;
    this.show = coalesced(() => this.#show());
    this.log = new Log(device);
    this.node = this.#make(changed, removed);
    this.node.style.setProperty("--hue", hue);
    device.addEventListener("change", this.show);
    device.addEventListener("state", () => this.#announce());
    this.#clock = setInterval(() => this.#time(), 1000);
    this.#show();
  }

  focus() {
    this.#parts.connect.focus();
    this.node.scrollIntoView({ block: "nearest" });
  }

  remove() {
    clearInterval(this.#clock);
    this.node.remove();
  }

  // -- parts

  #make(changed, removed) {
    const { device } = this;
    const part = (name, node) => (this.#parts[name] = node);
    const button = (name, text, act, ...classes) =>
      part(name, make(["button", ...classes].join("."), { type: "button", onclick: act }, text));
    return make(
      "section.card.own",
      { "aria-labelledby": `${this.name}-id` },
      make(
        "header",
        {},
        part("badge", make("h3", { id: `${this.name}-id` })),
        part("state", make("p.state")),
        button("connect", "Connect", () => this.#connect(), "main"),
      ),
      part("problem", make("p.problem", { hidden: true })),
      part("why", make("div.why", { hidden: true })),
      part("sending", this.#sending()),
      part(
        "actions",
        make(
          "div.actions",
          {},
          button("unmatch", "Unmatch", () => device.unmatch()),
          part(
            "drop",
            make("button", {
              type: "button",
              onclick: () => device.drop(),
              title: "Drop the connection for 3 seconds: the match outlives it",
            }, "Drop"),
          ),
          part("counts", make("span.counts")),
        ),
      ),
      this.#setup(changed, removed),
      this.#code(),
      this.log.node,
    );
  }

  #sending() {
    const { device } = this;
    const text = make("textarea", {
      name: "payload",
      value: "ciao",
      rows: 1,
      autocomplete: "off",
      spellcheck: false,
    });
    const file = make("input.visually-hidden", { type: "file", tabIndex: -1, "aria-hidden": "true" });
    const form = make("form.row", {}, make("label", {}, "Payload", text));
    const send = () => device.send(text.value);
    form.onsubmit = (event) => {
      event.preventDefault();
      send();
    };
    text.onkeydown = (event) => { // as in any chat; Shift+Enter is a new line
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        if (device.canSend) send();
      }
    };
    file.onchange = async () => {
      for (const each of file.files) await device.send(new Uint8Array(await each.arrayBuffer()));
      file.value = "";
    };
    this.#parts.text = text;
    this.#parts.send = make("button", {}, "Send");
    this.#parts.file = make("button", { type: "button", onclick: () => file.click() }, "File…");
    form.append(this.#parts.send, this.#parts.file, file);
    return form;
  }

  #setup(changed, removed) {
    const { device } = this;
    const field = ([name, label, more]) => {
      const input = make("input", {
        name,
        value: device.setup[name],
        autocomplete: "off",
        spellcheck: false,
        ...more,
      });
      input.oninput = () => this.#edit(name, input.value.trim(), changed);
      this.#parts[name] = input;
      return make("label", {}, label, input);
    };
    const dialect = make(
      "select",
      { name: "dialect" },
      new Option("cloudmatch.v1", "v1"),
      new Option("classic (2019)", "classic"),
    );
    dialect.value = device.setup.dialect;
    dialect.onchange = () => this.#edit("dialect", dialect.value, changed);
    this.#parts.dialect = dialect;
    const choices = make(
      "datalist",
      { id: `${this.name}-edges` },
      ...this.edges.map((url) => make("option", { value: url })),
    );
    const edge = field(["edge", "Edge", { placeholder: device.edge, inputMode: "url" }]);
    this.#parts.edge.setAttribute("list", choices.id);
    return make(
      "details.setup",
      {},
      this.#parts.summary = make("summary"),
      make(
        "fieldset",
        {},
        make("legend.visually-hidden", {}, "Set-up"),
        ...FIELDS.map(field),
        make("label", {}, "Dialect", dialect),
        make("div.wide", {}, edge, choices),
      ),
      this.#parts.remove = make("button.quiet", { type: "button", onclick: removed }, "Remove this device"),
    );
  }

  #edit(name, value, changed) {
    const { device } = this;
    if (device.on) device.move(this.#parts.lat.value.trim(), this.#parts.lon.value.trim());
    else {
      device.setup[name] = value;
      device.problem = "";
    }
    changed();
    this.show();
  }

  #code() {
    const { device } = this;
    const lines = make("pre", { tabIndex: 0 }, make("code"));
    const names = make("div.actions");
    const show = () => {
      const found = snippets(device.setup, device.edge);
      const buttons = found.map(([name, code]) => {
        const button = make("button", { type: "button" }, `Copy ${name}`);
        button.onfocus = button.onpointerenter = () => setText(lines.firstChild, code);
        button.onclick = () => copy(code, button);
        return button;
      });
      names.replaceChildren(...buttons);
      setText(lines.firstChild, found[1][1]);
      lines.setAttribute("aria-label", "Code");
    };
    const details = make(
      "details.code",
      {},
      make("summary", {}, "As code: websocat, Python, JavaScript"),
      names,
      lines,
    );
    details.ontoggle = () => {
      if (details.open) show();
    };
    return details;
  }

  // -- actions

  #connect() {
    const { device } = this;
    if (device.on) return device.leave();
    device.connect();
    if (device.problem) announce(device.problem);
  }

  // -- display

  #show() {
    const { device } = this;
    const { badge, state, connect, problem, send, file, unmatch, drop, counts, summary } = this.#parts;
    const { setup } = device;
    setText(badge, setup.id || "?");
    badge.title = setup.id;
    this.node.dataset.state = device.state;
    setText(state, this.#stateText());
    setText(connect, device.on ? "Leave" : "Connect");
    connect.classList.toggle("main", !device.on);
    connect.setAttribute("aria-label", `${device.on ? "Leave" : "Connect"}: ${setup.id}`);
    problem.hidden = !device.problem;
    setText(problem, device.problem);
    send.disabled = !device.canSend;
    send.classList.toggle("main", device.canSend);
    file.disabled = !device.canSend || device.classic;
    file.title = device.classic ? "Classic devices send text only" : "Send a file, as binary";
    this.#parts.sending.hidden = this.#parts.actions.hidden = !device.on;
    this.log.node.hidden = !device.on && !device.log.length;
    unmatch.disabled = !device.peer || device.classic;
    drop.disabled = !["waiting", "matched"].includes(device.state);
    const { sent, delivered, failed, received, bytesSent, bytesReceived } = device.counts;
    const holder = device.holder ? `On ${device.holder}. ` : "";
    const match = device.peer?.match ? `Match ${device.peer.match}. ` : "";
    const receipts = device.classic || !sent
      ? ""
      : `, ${delivered} delivered${failed ? `, ${failed} failed` : ""}`;
    setText(
      counts,
      `${holder}${match}Sent ${sent}${receipts} (${bytes(bytesSent)}). Received ${received} (${
        bytes(bytesReceived)
      }).`,
    );
    const further = [
      setup.app && `app ${setup.app}`,
      setup.tag && `tag ${setup.tag}`,
      setup.radius && `radius ${setup.radius} m`,
      device.classic && "classic",
    ];
    setText(summary, [`Set-up: ${setup.lat}, ${setup.lon}`, ...further.filter(Boolean)].join(" · "));
    for (const name of [...FIELDS.map(([name]) => name), "dialect", "edge"]) {
      const input = this.#parts[name];
      input.disabled = device.on && !(device.canMove && ["lat", "lon"].includes(name));
      if (document.activeElement !== input && input.value !== setup[name]) input.value = setup[name];
    }
    this.#explain();
    this.#time();
  }

  /** Show why the device has no match: match-engine's explanation, and what would help. */
  #explain() {
    const { device } = this;
    const { why } = this.#parts;
    const found = device.state === "waiting" ? device.explanation : null;
    why.hidden = !found;
    const sentence = JSON.stringify(found);
    if (!found || sentence === this.#sentence) return;
    this.#sentence = sentence;
    const nearest = (found.nearest ?? []).slice(0, NEAREST);
    const open = why.querySelector("details")?.open ?? false;
    why.replaceChildren(make("h4", {}, "Why no match?"), make("p", {}, found.sentence));
    if (!nearest.length) return;
    why.append(
      make(
        "ul",
        {},
        ...nearest.map((other) => {
          const help = remedy(other);
          return make(
            "li",
            {},
            make("b", {}, other.device),
            `${away(other.distance)}, ${obstacle(other)}. `,
            help && make("span", {}, `${help[0].toUpperCase()}${help.slice(1)}.`),
          );
        }),
      ),
      make(
        "details",
        { open },
        make("summary", {}, "match-engine’s explanation"),
        make("ul", {}, ...nearest.map(({ sentence }) => make("li", {}, sentence))),
      ),
    );
  }

  #stateText() {
    const { device } = this;
    const { peer } = device;
    const id = peer && shortened(peer.id);
    switch (device.state) {
      case "off":
        return "not connected";
      case "connecting":
        return peer ? `reconnecting, still matched with ${id}` : "connecting…";
      case "dropped":
        return peer ? `dropped for 3 s, still matched with ${id}` : "dropped for 3 s";
      case "waiting":
        return "waiting for a match";
      default: {
        if (!peer) return "matched";
        return device.peerAway
          ? `matched with ${id}, which is disconnected: payloads wait`
          : `matched with ${id}${away(peer.distance)}`;
      }
    }
  }

  #time() {
    const seconds = Math.round((Date.now() - this.device.since) / 1000);
    const text = this.device.on ? `${this.device.state} for ${count(seconds, "second")}` : "";
    if (this.#parts.state.title !== text) this.#parts.state.title = text;
  }

  #announce() {
    const { device } = this;
    // skip states that last only a moment
    clearTimeout(this.later);
    this.later = setTimeout(
      () => announce([`${device.setup.id}: ${this.#stateText()}`, device.problem].filter(Boolean).join(". ")),
      300,
    );
  }
}

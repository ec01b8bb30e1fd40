/** The first steps, shown on the first visit until they are completed. */

import { at, make, setText } from "./dom.js";

const DONE = "cloudmatch-guide-done";

/** Steps for the page's `devices`; call `watch` for each device that is added. */
export class Guide {
  #step = 0;

  constructor(devices) {
    this.devices = devices;
    const [first, second] = this.#pair();
    const [a, b] = [first?.setup.id, second?.setup.id];
    /** @type {[string, string, () => void][]} instruction; event that completes the step; how to do it automatically */
    this.steps = [
      [
        `Connect ${a} and ${b}. They are near each other, so they are matched.`,
        "matched",
        () => this.#pair().forEach((device) => device.connect()),
      ],
      [`Send something from ${a}: it arrives at ${b}.`, "payload", () => this.#matched()?.send("ciao")],
    ];
    if (![first, second].some((device) => device?.classic)) { // classic devices cannot resume
      this.steps.push([
        "Drop a connection, and send something meanwhile: the match continues, and nothing is lost.",
        "resumed",
        () => this.#dropped(),
      ]);
    }
    at("guide-do").onclick = () => this.steps[this.#step][2]();
    at("guide-close").onclick = () => this.#end();
    if (!seen() && a && b) this.#show();
  }

  watch(device) {
    device.addEventListener("change", () => {
      if (device.state === "matched") this.#done("matched");
    });
    device.addEventListener("payload", () => this.#done("payload"));
    device.addEventListener("resumed", () => this.#done("resumed"));
  }

  /** The first device and the one nearest to it. */
  #pair() {
    const [first, ...others] = this.devices;
    const far = ({ setup }) => Math.hypot(setup.lat - first.setup.lat, setup.lon - first.setup.lon);
    return first ? [first, others.sort((a, b) => far(a) - far(b))[0]].filter(Boolean) : [];
  }

  #matched() {
    return this.devices.find((device) => device.state === "matched" && device.canSend);
  }

  /** Drop a device whose peer is on this page, too, and send from the peer. */
  #dropped() {
    const device = this.#matched();
    const peer = this.devices.find((each) => each.peer?.id === device?.setup.id);
    device?.drop();
    peer?.send("are you there?");
  }

  #done(what) {
    if (at("guide").hidden || this.steps[this.#step][1] !== what) return;
    this.#step++;
    if (this.#step === this.steps.length) this.#end();
    else this.#show();
  }

  #show() {
    at("guide").hidden = false;
    setText(at("guide-text"), this.steps[this.#step][0]);
    at("guide-steps").replaceChildren(
      ...this.steps.map((_, i) => make("i", {}, i < this.#step ? "✓" : String(i + 1))),
    );
    [...at("guide-steps").children].forEach((node, i) => node.classList.toggle("now", i === this.#step));
    setText(at("guide-count"), `Step ${this.#step + 1} of ${this.steps.length}`);
  }

  #end() {
    const held = at("guide").contains(document.activeElement);
    at("guide").hidden = true;
    if (held) at("add").focus();
    try {
      localStorage.setItem(DONE, "1");
    } catch { /* the guide then appears again */ }
  }
}

function seen() {
  try {
    return localStorage.getItem(DONE) !== null;
  } catch {
    return false;
  }
}

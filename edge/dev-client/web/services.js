/** The services at the addresses that the edge gives: readiness, metrics, explanations, the cluster. */

import { same } from "./advice.js";

const PATIENCE = 3000; // ms for an answer

/** The address of the edge that serves this page, perhaps behind a path of a proxy; without a slash at the end. */
export const HOME = new URL("..", import.meta.url).href.replace(/\/$/, "");

/** In the order in which facts flow. */
export const NAMES = ["edge", "match-engine", "journal", "bridge-rabbit", "analytics"];

export class Services {
  /** Each {service, name, url}; the first is the edge that serves the page. */
  all = [];
  edges = [];

  /** Load the addresses from the edge. */
  async load() {
    const { edge, ports, services } = await json(`${HOME}/services.json`);
    const homes = [HOME, ...ports.map(withPort)];
    this.edge = edge;
    for (const service of NAMES) {
      const urls = services[service] ?? [];
      const own = service === "edge" && HOME;
      const others = own ? urls.filter((url) => !homes.some((each) => same(url, each))) : urls;
      if (own) this.all.push({ service, name: edge, url: own });
      others.forEach((url, i) => {
        const which = own ? url.replace(/^\w+:\/\//, "") : i + 1; // the names of other edges are unknown
        this.all.push({ service, url, name: own || others.length > 1 ? `${service} ${which}` : service });
      });
    }
    this.edges = this.all.filter(({ service }) => service === "edge").map(({ url }) => url);
  }

  /** The first URL of a service, or undefined. */
  find(service) {
    return this.all.find((each) => each.service === service)?.url;
  }

  /** The names of services without an address. */
  get missing() {
    return NAMES.filter((name) => !this.find(name));
  }

  /** Return {status, reasons}; status 0: no answer, or (`hidden`) one that this page may not read. */
  async readiness({ url }) {
    const probe = `${url}/system/readiness`;
    try {
      const answer = await fetch(probe, { signal: AbortSignal.timeout(PATIENCE), cache: "no-store" });
      const { reasons } = await answer.json().catch(() => ({}));
      return { status: answer.status, reasons };
    } catch {
      const there = await fetch(probe, { mode: "no-cors", signal: AbortSignal.timeout(PATIENCE) }).then(
        () => true,
        () => false,
      );
      return { status: 0, hidden: there };
    }
  }

  /** Return a function from a metric's name to its sum over all labels. */
  async metrics({ url }) {
    const answer = await fetch(`${url}/metrics`, {
      signal: AbortSignal.timeout(PATIENCE),
      cache: "no-store",
    });
    return read(await answer.text());
  }

  /** Return why a device is not matched, or its state; null if match-engine does not answer. */
  explain(app, id) {
    return this.#askMatchEngine(`/match/explain?${new URLSearchParams({ app, id })}`);
  }

  /** Return all edges and workers; null if match-engine does not answer, or does not know yet. */
  cluster() {
    return this.#askMatchEngine("/cluster");
  }

  /** Return the name of the edge that holds a device; null if match-engine does not know. */
  async holder(app, id) {
    const status = await this.#askMatchEngine(`/cluster?${new URLSearchParams({ app, id })}`);
    return status && status.device.state !== "away" ? status.device.edge : null;
  }

  async #askMatchEngine(path) {
    for (const { service, url } of this.all) { // any worker can answer
      if (service !== "match-engine") continue;
      try {
        return await json(`${url}${path}`);
      } catch { /* try the next one */ }
    }
    return null;
  }
}

/** The address of this edge, if it were at another of its ports. */
function withPort(port) {
  const url = new URL(HOME);
  url.port = port;
  return url.href;
}

/** Parse Prometheus text; return a function from a metric's name to its sum over all labels. */
export function read(text) {
  const sums = new Map();
  for (const [, name, value] of text.matchAll(/^([a-z_:][\w:]*)(?:\{.*\})? (\S+)/gim)) {
    sums.set(name, (sums.get(name) ?? 0) + Number(value));
  }
  return (name) => sums.get(name) ?? 0;
}

export async function json(url) {
  const answer = await fetch(url, { signal: AbortSignal.timeout(PATIENCE), cache: "no-store" });
  if (!answer.ok) throw new Error(`${url} answered ${answer.status}`);
  return answer.json();
}

/** Call `act` every `pause` ms while the page is visible; never concurrently. */
export function repeatedly(pause, act) {
  const turn = async () => {
    if (!document.hidden) await act().catch(() => {});
    setTimeout(turn, pause);
  };
  turn();
}

/** The other services, as far as the edge knows where they are: ask whether they are ready, what they count and know. */

import { same } from "./advice.js";

const PATIENCE = 3000; // ms for an answer

/** In the order in which facts travel. */
export const NAMES = ["edge", "match-engine", "journal", "bridge-rabbit", "analytics"];

export class Services {
  /** Each {service, name, url}; the first is the edge that the page is from. */
  all = [];
  edges = [];

  /** Ask the edge where all are. */
  async load() {
    const { edge, services } = await json(new URL("/services.json", location.href));
    this.edge = edge;
    for (const service of NAMES) {
      const urls = services[service] ?? [];
      const own = service === "edge" && location.origin;
      const others = own ? urls.filter((url) => !same(url, own)) : urls;
      if (own) this.all.push({ service, name: edge, url: own });
      others.forEach((url, i) => {
        const which = own ? new URL(url).host : i + 1; // of other edges it is not known what they are called
        this.all.push({ service, url, name: own || others.length > 1 ? `${service} ${which}` : service });
      });
    }
    this.edges = this.all.filter(({ service }) => service === "edge").map(({ url }) => url);
  }

  /** The first of a service, or undefined when it was not told where that is. */
  find(service) {
    return this.all.find((each) => each.service === service)?.url;
  }

  /** Names of those of which it was not told where they are. */
  get untold() {
    return NAMES.filter((name) => !this.find(name));
  }

  /** {status, reasons}; status 0: no answer, and `hidden` where there is one that this page may not read. */
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

  /** A function that gives a metric's sum over its labels. */
  async metrics({ url }) {
    const answer = await fetch(`${url}/metrics`, {
      signal: AbortSignal.timeout(PATIENCE),
      cache: "no-store",
    });
    return read(await answer.text());
  }

  /** Why a device is not matched, or where it stands; null when that cannot be told now. */
  async explain(app, id) {
    for (const { service, url } of this.all) { // any worker knows
      if (service !== "match-engine") continue;
      try {
        return await json(`${url}/match/explain?${new URLSearchParams({ app, id })}`);
      } catch { /* the next one, perhaps */ }
    }
    return null;
  }
}

/** Read Prometheus' text; give a function from a metric's name to its sum over all labels. */
export function read(text) {
  const sums = new Map();
  for (const [, name, value] of text.matchAll(/^([a-z_:][\w:]*)(?:\{.*\})? (\S+)/gim)) {
    sums.set(name, (sums.get(name) ?? 0) + Number(value));
  }
  return (name) => sums.get(name) ?? 0;
}

export async function json(url) {
  const answer = await fetch(url, { signal: AbortSignal.timeout(PATIENCE), cache: "no-store" });
  if (!answer.ok) throw new Error(`${url} answers ${answer.status}`);
  return answer.json();
}

/** Do something now and then, while the page is seen; never twice at once. */
export function repeatedly(pause, act) {
  const turn = async () => {
    if (!document.hidden) await act().catch(() => {});
    setTimeout(turn, pause);
  };
  turn();
}

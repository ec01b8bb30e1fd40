/** The strip of services and the cluster: which are ready or alive, and what to do about the others. */

import { idleAdvice, judge } from "./advice.js";
import * as cluster from "./cluster.js";
import { at, make, setText } from "./dom.js";
import { repeatedly } from "./services.js";

const PAUSE = 2500; // ms between two probes

/** `silence` returns that after which connections of this page end again and again, in s, or 0. */
export function watch(services, silence) {
  const answers = new Map();
  const items = new Map(services.all.map((each) => [each, item(each)]));
  at("health").replaceChildren(...[...items.values()].map(({ node }) => node));
  const missing = services.missing.filter((name) => name !== "edge");
  at("missing").hidden = !missing.length;
  setText(
    at("missing"),
    missing.length
      ? `This edge has no address for ${
        list(missing)
      } (CLOUDMATCH_EDGE_SERVICES; make up sets it). Devices, map and logs work without.`
      : "",
  );
  let status = null; // of the cluster
  const show = () => {
    cluster.show(status);
    const troubles = [];
    if (silence()) troubles.push(["proxy:", ...idleAdvice(silence())]);
    for (const [each, { node, text }] of items) {
      const found = judge(each, answers.get(each), location.origin);
      node.dataset.kind = found.kind;
      setText(text, found.text);
      if (found.why) troubles.push([`${each.name}: ${found.text}`, found.why, found.remedy]);
    }
    for (const { sentence, advice } of status?.problems ?? []) troubles.push(["cluster:", sentence, advice]);
    const shown = JSON.stringify(troubles);
    const box = at("troubles");
    if (box.shown === shown) return;
    box.shown = shown;
    box.replaceChildren(
      ...troubles.map(([name, why, remedy]) => make("p", {}, make("b", {}, name), ` ${why} ${remedy}`)),
    );
  };
  show();
  repeatedly(PAUSE, async () => {
    await Promise.all(services.all.map(async (each) => answers.set(each, await services.readiness(each))));
    status = await services.cluster();
    show();
  });
  at("cluster").ontoggle = show;
}

function item({ name, url }) {
  const text = make("span");
  return {
    text,
    node: make(
      "li",
      { title: url },
      make("i.dot", { "aria-hidden": "true" }),
      make("b", {}, name),
      " ",
      text,
    ),
  };
}

const list = (
  names,
) => (names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`);

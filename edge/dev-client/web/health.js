/** The strip that says which services are well, and what to do about those that are not. */

import { judge } from "./advice.js";
import { at, make, say } from "./dom.js";
import { repeatedly } from "./services.js";

const PAUSE = 2500; // ms between two looks

export function watch(services) {
  const answers = new Map();
  const items = new Map(services.all.map((each) => [each, item(each)]));
  at("health").replaceChildren(...[...items.values()].map(({ node }) => node));
  const untold = services.untold.filter((name) => name !== "edge");
  at("untold").hidden = !untold.length;
  say(
    at("untold"),
    untold.length
      ? `This edge was not told where ${
        list(untold)
      } can be found (CLOUDMATCH_EDGE_SERVICES; make up tells it). Devices, map and logs work all the same.`
      : "",
  );
  const show = () => {
    const troubles = [];
    for (const [each, { node, text }] of items) {
      const found = judge(each, answers.get(each), location.origin);
      node.dataset.kind = found.kind;
      say(text, found.text);
      if (found.why) troubles.push([`${each.name}: ${found.text}`, found.why, found.remedy]);
    }
    const told = JSON.stringify(troubles);
    const box = at("troubles");
    if (box.told === told) return;
    box.told = told;
    box.replaceChildren(
      ...troubles.map(([name, why, remedy]) => make("p", {}, make("b", {}, name), ` ${why} ${remedy}`)),
    );
  };
  show();
  repeatedly(PAUSE, async () => {
    await Promise.all(services.all.map(async (each) => answers.set(each, await services.readiness(each))));
    show();
  });
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

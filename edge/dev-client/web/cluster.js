/** All edges and workers, as match-engine lists them: in a line, and as a table. */

import { at, make, setText } from "./dom.js";
import { count } from "./words.js";

const whole = new Intl.NumberFormat("en");
const UNKNOWN = "–"; // the process does not say

/** Assess the cluster: {kind, text}, such as "2 edges, 1 full, 1 dead · 2 workers". */
export function summary({ edges, workers, problems }) {
  const line = (processes, one, gone) => {
    const states = new Map();
    for (const { state } of processes) states.set(state, (states.get(state) ?? 0) + 1);
    const present = processes.filter(({ state }) => !gone.includes(state)).length;
    const others = [...states].filter(([state]) => !["alive", "left"].includes(state)).sort();
    return [count(present, one), ...others.map(([state, number]) => `${whole.format(number)} ${state}`)].join(
      ", ",
    );
  };
  const serious = problems.some(({ kind }) => ["isolated", "conflict", "edges"].includes(kind));
  return {
    kind: serious ? "bad" : problems.length ? "warn" : "good",
    text: `${line(edges, "edge", ["dead", "left"])} · ${line(workers, "worker", ["silent", "left"])}`,
  };
}

/** The table's rows: name, state, load, devices, partitions, version; texts. */
export function rows({ edges, workers }) {
  const number = (value) => (value === null ? UNKNOWN : whole.format(value));
  const cells = (name, { state, load, version }, devices, partitions) => [
    name,
    state,
    load === null ? UNKNOWN : `${Math.round(100 * load)} %`,
    devices,
    partitions,
    version ?? UNKNOWN,
  ];
  return [
    ...edges.map((edge) => {
      const most = edge.max_devices ? ` of ${number(edge.max_devices)}` : "";
      const left = edge.releasing ? `, ${number(edge.releasing)} to release` : "";
      return cells(edge.name, edge, `${number(edge.devices)}${most}${left}`, "");
    }),
    ...workers.map((worker) => cells(`worker ${worker.name}`, worker, "", number(worker.partitions))),
  ];
}

/** Show the cluster; hide it if match-engine does not answer: `status` is null. */
export function show(status) {
  const box = at("cluster");
  box.hidden = !status;
  if (!status) return;
  const { kind, text } = summary(status);
  box.dataset.kind = kind;
  setText(at("cluster-summary"), text);
  if (!box.open) return;
  at("cluster-rows").replaceChildren(
    ...rows(status).map(([name, ...others]) =>
      make("tr", {}, make("th", { scope: "row" }, name), ...others.map((each) => make("td", {}, each)))
    ),
  );
}

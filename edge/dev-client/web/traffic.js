/** Live traffic: the windows of analytics, the journal's events, and each service's counters. */

import { draw, SHOWN } from "./chart.js";
import { at, coalesced, make, setText } from "./dom.js";
import { follow, named, sentence } from "./facts.js";
import { json, repeatedly } from "./services.js";
import { clock } from "./words.js";

const KEPT = 200; // events shown
const BEFORE = 30; // positions before the end at which the list starts
const [EVENTS, COUNTS, RETRY] = [1000, 3000, 3000]; // ms between two requests

// the figures shown for each service: [metric, label]
const FIGURES = {
  edge: [["cloudmatch_edge_devices", "devices"], ["cloudmatch_edge_payloads_delivered_total", "payloads"], [
    "cloudmatch_edge_delivered_bytes_total",
    "bytes",
  ], ["cloudmatch_edge_batches_resent_total", "resent"]],
  "match-engine": [["cloudmatch_match_engine_devices", "devices"], [
    "cloudmatch_match_engine_waiting",
    "waiting",
  ], ["cloudmatch_match_engine_routed_total", "messages routed"]],
  journal: [["cloudmatch_journal_events_total", "events stored"]],
  "bridge-rabbit": [["cloudmatch_bridge_rabbit_confirmed_total", "sizes in RabbitMQ"], [
    "cloudmatch_bridge_rabbit_dead_letters",
    "dead letters",
  ]],
  analytics: [["cloudmatch_analytics_counted_total", "sizes counted"], [
    "cloudmatch_analytics_late_total",
    "late",
  ]],
};

/** Show the closed windows, then each new one as it closes. */
export function windows(services) {
  const url = services.find("analytics");
  at("chart-box").hidden = !url;
  if (!url) return;
  const closed = new Map();
  let running = null;
  at("analytics").href = `${url}/`;
  const show = coalesced(() => {
    const rows = [...closed.values()].sort((a, b) => a.start - b.start).slice(-SHOWN);
    for (const start of [...closed.keys()].sort((a, b) => a - b).slice(0, -SHOWN)) closed.delete(start);
    draw(at("chart"), at("chart-rows"), rows, running);
  });
  const put = (window) => {
    closed.set(window.start, window);
    show();
  };
  const begin = () => {
    const live = new EventSource(`${url}/windows/live?size=10s`);
    const on = (name, take) => live.addEventListener(name, ({ data }) => take(JSON.parse(data)));
    on("closed", put);
    on("corrected", put);
    on("running", (window) => {
      running = window;
      show();
    });
    live.onopen = () => {
      setText(at("chart-state"), "");
      json(`${url}/windows?size=10s&last=${SHOWN}`).then((found) => found.forEach(put), () => {});
    };
    live.onerror = () => {
      setText(at("chart-state"), "Analytics does not answer; the chart resumes when it does.");
      if (live.readyState === EventSource.CLOSED) setTimeout(begin, RETRY);
    };
  };
  new ResizeObserver(show).observe(at("chart"));
  begin();
}

/** Show the journal's events; keep `others` up to date with devices elsewhere, and then call `changed`. */
export function events(services, devices, others, changed) {
  const journal = services.all.find(({ service }) => service === "journal");
  at("events-box").hidden = !journal;
  if (!journal) return;
  let after = null;
  const matches = new Set(); // a match is published again after a worker or a device was away
  const again = ({ type, match }) => type === "matched" && matches.size === matches.add(match).size;
  const list = at("events");
  const mine = at("events-mine");
  mine.onchange = () => list.classList.toggle("mine", mine.checked);
  repeatedly(EVENTS, async () => {
    try {
      after ??= Math.max(0, (await services.metrics(journal))("cloudmatch_journal_position") - BEFORE);
      const page = await json(`${journal.url}/events?after=${after}&limit=500`);
      after = page.more ? null : page.next; // too many events to show: skip to near the end
      const own = new Set(devices.map(({ app, setup }) => JSON.stringify([app, setup.id])));
      const rows = page.events.filter(({ fact }) => !again(fact)).map(({ position, fact }) => {
        follow(others, fact);
        const node = make(
          "li",
          {},
          make("time", {}, clock(fact.at)),
          make("span", { title: `app ${fact.app}, position ${position}` }, sentence(fact)),
        );
        if (!named(fact).some((id) => own.has(JSON.stringify([fact.app, id])))) node.classList.add("other");
        return node;
      });
      if (rows.length) {
        list.prepend(...rows.reverse());
        while (list.childElementCount > KEPT) list.lastElementChild.remove();
        changed();
      }
      const skipped = "Too many events to show them all: some are skipped.";
      setText(
        at("events-state"),
        page.more ? skipped : list.childElementCount ? "" : "Nothing has happened yet.",
      );
    } catch {
      setText(at("events-state"), "The journal does not answer; its events resume when it does.");
    }
  });
}

/** Show each service's counters. */
export function counts(services) {
  const rows = services.all.map((each) => {
    const node = make("dd", {}, "…");
    return { each, node, item: make("div", {}, make("dt", {}, each.name), node) };
  });
  at("counts").replaceChildren(...rows.map(({ item }) => item));
  repeatedly(COUNTS, () =>
    Promise.all(rows.map(async ({ each, node }) => {
      try {
        const metric = await services.metrics(each);
        const figures = FIGURES[each.service].map((
          [name, words],
        ) => [`${words} `, make("b", {}, metric(name).toLocaleString("en", { maximumFractionDigits: 0 }))]);
        node.replaceChildren(...figures.flatMap((pair, i) => (i ? [" · ", ...pair] : pair)));
      } catch {
        setText(node, "unknown");
      }
    })));
}

"use strict";
/* The live chart. Closed windows are loaded from /windows; later ones, and corrections, arrive as events. */

const TIMEOUT = 4000; // ms without an event (there is one every second) until the connection counts as lost
const BEHIND = 3000; // ms by which windows may close too late before a warning is shown
const SENDERS_INTERVAL = 5000; // ms between two requests for devices and apps

/** @returns {any} The element with this id. */
const at = (id) => document.getElementById(id);
const Plot = /** @type {any} */ (globalThis).uPlot; // set by the script before this one
const form = at("choice");
const address = new URLSearchParams(location.search);
let windows = new Map(); // closed windows, by their start
let running = null; // the running window
let state = null; // the last state that the server sent
let live = null; // the stream of events
let lastEvent = 0; // when the last event arrived, ms since 1970
let generation = 0; // number of the selection: answers to older ones are ignored
let loaded = false;
let selected = null; // start of the window selected by keyboard
let known = ""; // the senders in the menus

// -- formatting

const whole = new Intl.NumberFormat("en");
const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];

function bytes(amount) {
  let unit = 0;
  while (amount >= 999.5 && unit < UNITS.length - 1) {
    amount /= 1000;
    unit++;
  }
  const digits = amount >= 100 || unit === 0 && Number.isInteger(amount) ? 0 : amount >= 10 ? 1 : 2;
  return `${amount.toFixed(digits)} ${UNITS[unit]}`;
}

const round = (amount) => bytes(amount).replace(/\.0+(?= )|(\.\d*[1-9])0+(?= )/, "$1"); // for an axis

const plural = (count, one) => `${whole.format(count)} ${one}${count === 1 ? "" : "s"}`;
const time = (ms) =>
  new Date(ms).toLocaleTimeString([], {
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    hourCycle: "h23",
  });
const rate = (window) => window.bytes * 1000 / (window.end - window.start);

function pace(last, running) {
  // a window that has just begun holds little: include the one before it
  const of = [running, last && last.end <= running.start ? last : null].filter(Boolean);
  const span = of.reduce(
    (sum, window) => sum + Math.min(window.end, state?.now ?? window.end) - window.start,
    0,
  );
  return of.reduce((sum, window) => sum + window.bytes, 0) * 1000 / Math.max(1000, span);
}

function rows() {
  const closed = [...windows.values()].sort((a, b) => a.start - b.start).slice(-form.last.value);
  windows = new Map(closed.map((window) => [window.start, window]));
  return closed;
}

// -- the chart

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
let plot = null;

function options() {
  const axis = {
    stroke: () => colour("--quiet"),
    grid: { stroke: () => colour("--line"), width: 1 },
    ticks: { show: false },
    font: "12px system-ui, sans-serif",
  };
  return {
    width: at("chart").clientWidth,
    height: at("chart").clientHeight,
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 9, width: 2 } },
    padding: [12, 20, 0, 0],
    scales: { y: { range: (_, __, most) => [0, Math.max(1, most * 1.12)] } },
    axes: [
      {
        ...axis,
        space: 80,
        size: 32,
        values: (_, splits, __, ___, step) => splits.map((s) => time(s * 1000).slice(0, step >= 60 ? 5 : 8)),
      },
      { ...axis, size: 62, space: 44, values: (_, splits) => splits.map(round) },
    ],
    series: [
      {},
      {
        stroke: () => colour("--accent"),
        fill: () => colour("--fill"),
        width: 2,
        paths: Plot.paths.stepped({ align: 1 }),
        points: { show: false },
      },
      {
        stroke: () => colour("--accent"),
        fill: () => colour("--fill"),
        width: 2,
        dash: [3, 4],
        paths: Plot.paths.stepped({ align: 1 }),
        points: { show: false },
      },
    ],
    hooks: { setCursor: [pointed] },
  };
}

function data(closed) {
  // a step needs an end, too: the last closed window ends where the running one begins
  const x = closed.map((window) => window.start / 1000), y = closed.map(rate);
  const now = x.map(() => null);
  const last = closed.at(-1);
  if (last) {
    const hop = closed.length > 1 ? last.start - closed.at(-2).start : last.end - last.start;
    x.push((last.start + hop) / 1000);
    y.push(rate(last));
    now.push(null);
    if (running && running.start === last.start + hop) {
      now[now.length - 1] = rate(running); // so far
      x.push((running.start + hop) / 1000);
      y.push(null);
      now.push(rate(running));
    }
  }
  return [x, y, now];
}

function pointed() {
  const closed = rows(), index = plot?.cursor.idx;
  at("reading").textContent = index != null && closed[index] ? sentence(closed[index]) : "";
}

function sentence(window) {
  const late = window.late ? `, ${whole.format(window.late)} late` : "";
  return `${time(window.start)}–${time(window.end)}: ${bytes(rate(window))}/s, ${bytes(window.bytes)} in ${
    plural(window.messages, "payload")
  }${late}`;
}

function draw() {
  const closed = rows(), last = closed.at(-1);
  const any = closed.some((window) => window.messages) || running?.messages;
  at("empty").hidden = !loaded || Boolean(any);
  at("chart").classList.toggle("blank", !any);
  at("empty-text").textContent = form.app.value || form.device.value
    ? "No payloads match this selection in the windows shown."
    : "Once two devices exchange payloads, their bytes appear here.";
  const series = data(closed);
  if (plot) plot.setData(series);
  else plot = new Plot(options(), series, at("chart"));
  figures(closed, last);
  if (at("table").open) table(closed);
}

function figures(closed, last) {
  const ready = Boolean(last);
  at("now").textContent = running ? bytes(pace(last, running)) : "–";
  at("last").textContent = ready ? bytes(last.bytes) : "–";
  at("last-messages").textContent = ready
    ? `${plural(last.messages, "payload")}, until ${time(last.end)}`
    : "none closed yet";
  const overlap = closed.length > 1 && closed[1].start < closed[0].end;
  const summed = overlap
    ? closed.filter((window) => (last.end - window.end) % (last.end - last.start) === 0)
    : closed;
  const sum = (of, name) => of.reduce((total, window) => total + window[name], 0);
  at("total").textContent = ready ? bytes(sum(summed, "bytes")) : "–";
  at("total-messages").textContent = ready ? plural(sum(summed, "messages"), "payload") : "";
  const peak = closed.reduce((most, window) => !most || window.bytes > most.bytes ? window : most, null);
  at("peak").textContent = peak?.bytes ? bytes(peak.bytes) : "–";
  at("peak-when").textContent = peak?.bytes ? `at ${time(peak.start)}` : "";
}

function table(closed) {
  const row = (window, name) => {
    const made = document.createElement("tr");
    if (name) made.className = name;
    const cells = [
      time(window.start),
      name ? "running" : time(window.end),
      bytes(rate(window)),
      whole.format(window.bytes),
      whole.format(window.messages),
      window.late ? whole.format(window.late) : "",
    ];
    cells.forEach((text, i) => {
      const cell = document.createElement("td");
      cell.textContent = text;
      if (i === 5 && text) cell.className = "late";
      made.append(cell);
    });
    return made;
  };
  const made = closed.map((window) => row(window)).reverse();
  if (running) made.unshift(row(running, "running"));
  at("rows").replaceChildren(...made);
}

// -- status

function show(kind, text) {
  if (at("state-text").textContent !== text) at("state-text").textContent = text;
  at("state").dataset.kind = kind;
  at("chart").classList.toggle("stale", kind === "bad");
}

function updateStatus() {
  const silent = Date.now() - lastEvent;
  if (live?.readyState !== EventSource.OPEN || silent > TIMEOUT) {
    if (lastEvent) show("bad", "Connection lost, retrying…");
    else show("wait", "Connecting…");
    if (silent > 2 * TIMEOUT && lastEvent) restart(); // an idle connection is a dead one
    return;
  }
  if (!state) return;
  const reasons = Object.values(state.reasons).join("; ");
  if (reasons) show("warn", `Analytics is behind: ${reasons}`);
  else if (!state.closed_until) show("wait", "No window has closed yet");
  else if (state.behind > BEHIND) show("warn", `Analytics is behind by ${Math.round(state.behind / 1000)} s`);
  else show("good", "Live");
}

// -- the server

function query() {
  const parameters = new URLSearchParams(form.shape.value);
  parameters.set("app", form.app.value);
  if (form.device.value) {
    const [app, device] = JSON.parse(form.device.value);
    parameters.set("app", app);
    parameters.set("device", device);
  }
  return parameters;
}

async function load(mine) {
  const parameters = query();
  parameters.set("last", form.last.value);
  const answer = await fetch(`windows?${parameters}`);
  if (mine !== generation || !answer.ok) return;
  const found = await answer.json();
  if (mine !== generation) return;
  for (const window of found) windows.set(window.start, window);
  loaded = true;
  draw();
}

function restart() {
  const mine = ++generation;
  live?.close();
  windows.clear();
  running = selected = null;
  loaded = false;
  lastEvent = lastEvent && Date.now();
  live = new EventSource(`windows/live?${query()}`);
  const on = (name, handle) =>
    live.addEventListener(name, (event) => {
      if (mine !== generation) return;
      lastEvent = Date.now();
      handle(JSON.parse(event.data));
    });
  const put = (window) => {
    windows.set(window.start, window);
    draw();
  };
  on("closed", put);
  on("corrected", (window) => {
    if (windows.has(window.start)) put(window);
  });
  on("running", (window) => {
    running = window;
    if (loaded) draw();
  });
  on("state", (sent) => {
    state = sent;
    updateStatus();
  });
  live.onopen = () => load(mine).catch(() => {}); // retried when the connection reopens
  live.onerror = () => {
    updateStatus();
    if (live.readyState === EventSource.CLOSED) {
      setTimeout(() => {
        if (mine === generation) restart();
      }, 2000);
    }
  };
}

async function loadSenders() {
  const answer = await fetch("senders?minutes=1440").catch(() => null);
  if (!answer?.ok) return;
  const found = await answer.json();
  found.sort((a, b) =>
    a.app.localeCompare(b.app) || a.device.localeCompare(b.device, undefined, { numeric: true })
  );
  const names = JSON.stringify(found.map((sender) => [sender.app, sender.device]));
  if (names === known || document.activeElement === form.app || document.activeElement === form.device) {
    return;
  }
  known = names;
  menus(found);
}

function menus(found) {
  const apps = [...new Set(found.map((sender) => sender.app))];
  fill(form.app, "All apps", apps.map((app) => [app, app]));
  const of = found.filter((sender) => sender.device && (!form.app.value || sender.app === form.app.value));
  fill(
    form.device,
    "All devices",
    of.map((
      { app, device },
    ) => [JSON.stringify([app, device]), form.app.value || apps.length < 2 ? device : `${device} · ${app}`]),
  );
}

function fill(menu, all, entries) {
  const before = menu.value;
  menu.replaceChildren(new Option(all, ""), ...entries.map(([value, text]) => new Option(text, value)));
  if (before && !entries.some(([value]) => value === before)) {
    menu.append(new Option(menu === form.device ? JSON.parse(before)[1] : before, before));
  }
  menu.value = before;
}

// -- user input

function select(event) {
  if (event?.target === form.app) {
    form.device.value = "";
    known = "";
  }
  const chosen = new URLSearchParams();
  for (const { name, value } of form.elements) if (value) chosen.set(name, value);
  history.replaceState(null, "", `?${chosen}`);
  restart();
  loadSenders();
}

at("chart").addEventListener("keydown", (event) => {
  const closed = rows();
  const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
  if (!(event.key in steps) || !closed.length) return;
  event.preventDefault();
  const from = closed.findIndex((window) => window.start === selected);
  const index = Math.max(
    0,
    Math.min(closed.length - 1, (from < 0 ? closed.length : from) + steps[event.key]),
  );
  selected = closed[index].start;
  plot.setCursor({ left: plot.valToPos(selected / 1000, "x"), top: 0 });
  at("reading").textContent = at("spoken").textContent = sentence(closed[index]);
});
at("chart").addEventListener("blur", () => {
  selected = null;
  plot?.setCursor({ left: -10, top: -10 });
});
at("table").addEventListener("toggle", draw);
form.addEventListener("change", select);
form.addEventListener("submit", (event) => event.preventDefault());
new ResizeObserver(() => plot?.setSize({ width: at("chart").clientWidth, height: at("chart").clientHeight }))
  .observe(at("chart"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plot?.redraw());

for (const [name, value] of address) {
  const menu = form.elements[name];
  if (!menu) continue;
  if ((name === "app" || name === "device") && value) {
    menu.append(new Option(name === "device" ? JSON.parse(value)[1] : value, value));
  }
  menu.value = value;
}
restart();
loadSenders();
setInterval(updateStatus, 1000);
setInterval(loadSenders, SENDERS_INTERVAL);

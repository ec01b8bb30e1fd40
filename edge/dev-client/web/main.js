/** The page: wires devices, cards, map and services together, and keeps the set-up in the address. */

import { idleTimeout } from "./advice.js";
import { Card } from "./card.js";
import { Device } from "./device.js";
import { announce, at, copy } from "./dom.js";
import { Guide } from "./guide.js";
import { watch } from "./health.js";
import { applyOptions } from "./log.js";
import { PlaneMap } from "./map.js";
import { HOME, repeatedly, Services } from "./services.js";
import { complete, DEFAULT, freeId, read, write } from "./setup.js";
import { counts, events, windows } from "./traffic.js";

const [EXPLAIN, LOCATE] = [1500, 2500]; // ms between two requests for explanations, for the holders of devices

const devices = [];
const cards = new Map();
const others = new Map(); // devices elsewhere, from the journal
const services = new Services();
const map = new PlaneMap(devices, others, remember, (device) => cards.get(device).focus());
const ends = []; // connections that broke off
let hues = 0;

/** Store the devices' set-ups in the address. */
function remember() {
  history.replaceState(null, "", `#${write(devices.map(({ setup }) => setup))}`);
}

function add(setup) {
  const device = new Device(setup, HOME);
  const hue = (225 + 137.5 * hues++) % 360; // far from the previous ones
  const card = new Card(device, hue, {
    changed: () => {
      remember();
      map.draw();
    },
    removed: () => dismiss(device),
    edges: services.edges,
  });
  devices.push(device);
  cards.set(device, card);
  at("cards").append(card.node);
  map.add(device, hue);
  guide?.watch(device);
  device.addEventListener(
    "brokeOff",
    (/** @type {any} */ { silence }) => ends.push({ at: performance.now() / 1000, silence }),
  );
  device.addEventListener("state", () => {
    if (device.state === "off") notifyPeers(device);
  });
  return card;
}

/** Remove a device on request. */
function dismiss(device) {
  remove(device);
  remember();
  announce(`${device.setup.id} removed`);
  at("add").focus();
}

function remove(device) {
  device.leave();
  cards.get(device).remove();
  cards.delete(device);
  devices.splice(devices.indexOf(device), 1);
  map.remove(device);
}

/** Update classic peers of a device that left: their dialect does not report it. */
function notifyPeers(gone) {
  for (const device of devices) {
    if (device !== gone && device.app === gone.app && device.peer?.id === gone.setup.id) device.peerGone();
  }
}

/** Ask match-engine about waiting devices, and about classic ones, which do not learn that their match ended. */
async function explain() {
  await Promise.all(devices.map(async (device) => {
    const { state, since } = device;
    if (state !== "waiting" && !(device.classic && state === "matched")) return;
    const found = await services.explain(device.app, device.setup.id);
    if (device.since !== since) return; // outdated by now
    if (state === "matched") {
      if (found?.state === "waiting") device.peerGone();
      return;
    }
    device.explanation = found;
    device.dispatchEvent(new Event("change"));
  }));
}

/** Ask match-engine which edge holds each connected device. */
async function locate() {
  await Promise.all(devices.map(async (device) => {
    const { since } = device;
    if (!["waiting", "matched"].includes(device.state)) return;
    const holder = await services.holder(device.app, device.setup.id);
    if (device.since !== since || device.holder === holder) return; // outdated by now, or as before
    device.holder = holder;
    device.dispatchEvent(new Event("change"));
  }));
}

let guide = null;

async function begin() {
  await services.load();
  document.title = `CloudMatch dev client · ${services.edge}`;
  for (const setup of read(location.hash || DEFAULT)) add(setup);
  guide = new Guide(devices);
  devices.forEach((device) => guide.watch(device));
  remember();
  applyOptions();
  watch(services, () => idleTimeout(ends));
  counts(services);
  windows(services);
  events(services, devices, others, map.draw);
  if (services.find("match-engine")) {
    repeatedly(EXPLAIN, explain);
    repeatedly(LOCATE, locate);
  }
}

at("skip").onclick = (event) => { // the fragment holds the set-ups
  event.preventDefault();
  at("cards").focus();
};
at("add").onclick = () => {
  const last = devices.at(-1)?.setup;
  const id = freeId(devices.map(({ setup }) => setup.id));
  const setup = complete({ ...last, id, lat: last?.lat ?? "1", lon: String(Number(last?.lon ?? 0) + 1) });
  const card = add(setup);
  remember();
  card.node.querySelector("button").focus();
};
at("share").onclick = () => copy(location.href, at("share"));
at("connect-all").onclick = () => devices.forEach((device) => device.connect());
at("leave-all").onclick = () => devices.forEach((device) => device.leave());
addEventListener("hashchange", () => { // another set-up was opened in this page
  const setups = read(location.hash);
  if (setups.length && write(setups) !== write(devices.map(({ setup }) => setup))) {
    for (const device of [...devices]) remove(device);
    setups.forEach(add);
  }
  remember();
});

begin().catch((error) => {
  at("troubles").textContent = `The edge does not answer: ${error.message}. Reload the page.`;
});

/** The map: a plane with devices, their reach, matches, and payloads in flight. */

import { announce, at, coalesced, make } from "./dom.js";
import { bounds, degrees, place, reach, round, ruler, squeeze, ticks, view } from "./plane.js";
import { distance } from "./words.js";

const FLIGHT = 650; // ms for which a payload is shown in flight; it really takes a few
const NOTICE = 6000; // ms for which a refusal is shown
const MOST = 60; // payloads drawn in flight

export class PlaneMap {
  #pins = new Map(); // device → its button
  #flights = [];
  #view = null;
  #later; // timer that restores the hint below the map
  #held = null; // the device being dragged
  #canvas = at("canvas");
  #still = matchMedia("(prefers-reduced-motion: reduce)");

  /**
   * `devices` are those of the page; `others` those in the journal, by app and id: {id, app, lat, lon}.
   * Calls `moved` when a device was moved here, and `chosen` with a device that was clicked.
   */
  constructor(devices, others, moved, chosen) {
    this.devices = devices;
    this.others = others;
    this.moved = moved;
    this.chosen = chosen;
    this.draw = coalesced(() => this.#draw());
    new ResizeObserver(this.draw).observe(this.#canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", this.draw);
  }

  add(device, hue) {
    const pin = make("button.pin.own", { type: "button" });
    pin.style.setProperty("--hue", hue);
    pin.hue = hue;
    this.#grab(pin, device);
    this.#pins.set(device, pin);
    at("pins").append(pin);
    device.addEventListener("change", this.draw);
    device.addEventListener("payload", ({ from }) => {
      const sender = this.#own(from, device);
      this.#fly(this.#find(from, device), this.#at(device), this.#pins.get(sender)?.hue ?? hue);
    });
    device.addEventListener("delivered", ({ to }) => { // a peer on this page shows it itself
      if (!this.#own(to, device)) this.#fly(this.#at(device), this.#find(to, device), hue);
    });
    this.draw();
  }

  remove(device) {
    this.#pins.get(device).remove();
    this.#pins.delete(device);
    this.draw();
  }

  // -- moving devices

  #grab(pin, device) {
    let offset = null;
    let dragged = false;
    const to = (event) => {
      const box = this.#canvas.getBoundingClientRect();
      return place(this.#view, event.clientX - box.left - offset.x, event.clientY - box.top - offset.y);
    };
    pin.onpointerdown = (event) => {
      if (!this.#view || event.button) return;
      if (!device.canMove) return this.#refuse(device);
      const box = pin.getBoundingClientRect();
      offset = {
        x: event.clientX - (box.left + box.width / 2),
        y: event.clientY - (box.top + box.height / 2),
      };
      dragged = false;
      pin.setPointerCapture(event.pointerId);
      this.#held = device;
    };
    pin.onpointermove = (event) => {
      if (this.#held !== device) return;
      dragged ||= Math.hypot(event.movementX, event.movementY) > 0;
      if (!dragged) return;
      const { lat, lon } = to(event);
      Object.assign(device.setup, { lat: String(lat), lon: String(lon) }); // sent when the pointer is released
      this.draw();
    };
    pin.onpointerup = pin.onpointercancel = () => {
      if (this.#held !== device) return;
      this.#held = null;
      if (dragged) this.#move(device, device.setup);
    };
    pin.onclick = () => {
      if (!dragged) this.chosen(device);
      dragged = false;
    };
    pin.onkeydown = (event) => {
      const [east, north] =
        { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] ?? [];
      if (east === undefined || !this.#view) return;
      event.preventDefault();
      if (!device.canMove) return this.#refuse(device);
      const step = round(10 / this.#view.high) * (event.shiftKey ? 5 : 1);
      const { setup } = device;
      const near = (number) => Number(number.toFixed(7));
      const lat = Math.max(-90, Math.min(90, near(Number(setup.lat) + north * step)));
      const lon = Math.max(-180, Math.min(180, near(Number(setup.lon) + east * step)));
      this.#move(device, { lat, lon });
      announce(`${setup.id} at ${setup.lat}, ${setup.lon}`);
    };
  }

  #refuse(device) {
    const hint = at("map-hint");
    hint.text ??= hint.textContent;
    hint.textContent =
      `${device.setup.id} is a classic device: it sends its position when it connects, and cannot move later.`;
    announce(hint.textContent);
    clearTimeout(this.#later);
    this.#later = setTimeout(() => {
      hint.textContent = hint.text;
    }, NOTICE);
  }

  #move(device, { lat, lon }) {
    device.move(lat, lon);
    this.moved();
    this.draw();
  }

  // -- positions

  #at({ setup }) {
    const [lat, lon, radius] = [setup.lat, setup.lon, setup.radius].map((
      text,
    ) => (text === "" ? NaN : Number(text)));
    return Math.abs(lat) <= 90 && Math.abs(lon) <= 180 ? { lat, lon, radius } : null;
  }

  /** The device with this id, if it is on this page and in the same app. */
  #own(id, device) {
    return this.devices.find((each) => each.on && each.setup.id === id && each.app === device.app);
  }

  /** The position of a device's peer, if it is known. */
  #find(id, device) {
    const own = this.#own(id, device);
    return own ? this.#at(own) : this.others.get(JSON.stringify([device.app, id])) ?? null;
  }

  #fly(from, to, hue) {
    const target = to ?? from;
    if (!target || this.#flights.length >= MOST) return;
    this.#flights.push({ from: from ?? target, to: target, hue, begun: performance.now() });
    this.draw();
  }

  // -- drawing

  #draw() {
    const canvas = this.#canvas;
    const { clientWidth: width, clientHeight: height } = canvas;
    if (!width || !height) return;
    const ratio = devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const shown = this.devices.map((device) => ({
      device,
      spot: this.#at(device),
      hue: this.#pins.get(device)?.hue,
    })).filter(({ spot }) => spot);
    const spots = shown.map(({ spot }) => spot);
    if (!this.#held || !this.#view) this.#view = view(bounds(spots), width, height, squeeze(spots));
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(name).trim();
    const own = (hue, opacity = 1) => `hsl(${hue} 60% ${colour("--shade")} / ${opacity})`;
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    this.#grid(pen, width, height, colour);
    this.#others(pen, colour);
    for (const { device, spot, hue } of shown) {
      this.#reach(pen, spot, own(hue, device.on ? 0.12 : 0.04), own(hue, device.on ? 0.75 : 0.25), device.on);
    }
    this.#matches(pen, shown, colour);
    this.#payloads(pen, own);
    this.#place(shown, width, height);
    at("map-empty").hidden = shown.length > 0;
    if (this.#flights.length) this.draw();
  }

  #grid(pen, width, height, colour) {
    const seen = this.#view;
    const [across, up] = [round(70 / seen.wide), round(70 / seen.high)];
    pen.lineWidth = 1;
    pen.strokeStyle = colour("--line");
    pen.fillStyle = colour("--muted");
    pen.font = "11px system-ui, sans-serif";
    pen.beginPath();
    for (const lon of ticks(Math.max(seen.lon(0), -180), Math.min(seen.lon(width), 180), across)) {
      const x = Math.round(seen.x(lon)) + 0.5;
      pen.moveTo(x, 0);
      pen.lineTo(x, height);
      if (x > 34 && x < width - 24) pen.fillText(degrees(lon, across), x + 4, height - 6);
    }
    for (const lat of ticks(Math.max(seen.lat(height), -90), Math.min(seen.lat(0), 90), up)) {
      const y = Math.round(seen.y(lat)) + 0.5;
      pen.moveTo(0, y);
      pen.lineTo(width, y);
      if (y > 16 && y < height - 20) pen.fillText(degrees(lat, up), 5, y - 4);
    }
    pen.stroke();
    const { metres, pixels } = ruler(seen, seen.lat(height / 2), 110);
    pen.strokeStyle = colour("--muted");
    pen.beginPath();
    pen.moveTo(width - 14 - pixels, 16.5);
    pen.lineTo(width - 14 - pixels, 20.5);
    pen.lineTo(width - 14, 20.5);
    pen.lineTo(width - 14, 16.5);
    pen.stroke();
    pen.textAlign = "right";
    pen.fillText(metres < 1 ? `${metres} m` : distance(metres).replace(/\.00/, ""), width - 14, 13);
    pen.textAlign = "left";
  }

  #others(pen, colour) {
    const apps = new Set(this.devices.map(({ app }) => app));
    const here = new Set(
      this.devices.filter(({ on }) => on).map(({ app, setup }) => JSON.stringify([app, setup.id])),
    );
    pen.strokeStyle = pen.fillStyle = colour("--muted");
    pen.lineWidth = 1.5;
    for (const [key, other] of this.others) {
      if (!apps.has(other.app) || here.has(key)) continue;
      const [x, y] = [this.#view.x(other.lon), this.#view.y(other.lat)];
      pen.beginPath();
      pen.arc(x, y, 4, 0, 7);
      pen.stroke();
      if (this.others.size <= 40) {
        pen.fillText(other.id.length > 16 ? `${other.id.slice(0, 15)}…` : other.id, x + 8, y + 4);
      }
    }
  }

  #reach(pen, spot, fill, stroke, on) {
    const { high, wide } = reach(spot);
    pen.beginPath();
    pen.ellipse(
      this.#view.x(spot.lon),
      this.#view.y(spot.lat),
      wide * this.#view.wide,
      high * this.#view.high,
      0,
      0,
      7,
    );
    pen.fillStyle = fill;
    pen.fill();
    pen.strokeStyle = stroke;
    pen.lineWidth = 1.25;
    pen.setLineDash(on ? [] : [3, 4]);
    pen.stroke();
    pen.setLineDash([]);
  }

  #matches(pen, shown, colour) {
    for (const { device, spot } of shown) {
      const there = device.peer && this.#find(device.peer.id, device);
      if (!there) continue;
      pen.beginPath();
      pen.moveTo(this.#view.x(spot.lon), this.#view.y(spot.lat));
      pen.lineTo(this.#view.x(there.lon), this.#view.y(there.lat));
      pen.strokeStyle = colour("--good");
      pen.lineWidth = 2.5;
      pen.setLineDash(device.peerAway || device.state === "dropped" ? [2, 6] : []);
      pen.stroke();
      pen.setLineDash([]);
    }
  }

  #payloads(pen, own) {
    const now = performance.now();
    this.#flights = this.#flights.filter(({ begun }) => now - begun < FLIGHT);
    for (const { from, to, hue, begun } of this.#flights) {
      const part = (now - begun) / FLIGHT;
      const there = this.#still.matches ? 1 : 1 - (1 - part) ** 3;
      const [x, y] = [from, to].map(({ lon, lat }) => [this.#view.x(lon), this.#view.y(lat)]).reduce((
        [ax, ay],
        [bx, by],
      ) => [ax + (bx - ax) * there, ay + (by - ay) * there]);
      pen.beginPath();
      if (this.#still.matches || from === to) { // a ring that does not move
        pen.arc(x, y, 20, 0, 7);
        pen.lineWidth = 4;
        pen.strokeStyle = own(hue, 1 - part);
        pen.stroke();
      } else {
        pen.arc(x, y, 6, 0, 7);
        pen.fillStyle = own(hue);
        pen.fill();
      }
    }
  }

  /** Put the pins, which are buttons, where their devices are. */
  #place(shown, width, height) {
    const seen = new Set(shown.map(({ device }) => device));
    for (const [device, pin] of this.#pins) pin.hidden = !seen.has(device);
    for (const { device, spot } of shown) {
      const pin = this.#pins.get(device);
      const { setup, state, peer } = device;
      const [x, y] = [this.#view.x(spot.lon), this.#view.y(spot.lat)];
      pin.style.left = `${Math.max(14, Math.min(width - 14, x))}px`;
      pin.style.top = `${Math.max(14, Math.min(height - 14, y))}px`;
      pin.dataset.state = state;
      const label = setup.id.length > 12 ? `${setup.id.slice(0, 11)}…` : setup.id || "?";
      if (pin.textContent !== label) pin.textContent = label;
      const stands = { off: "not connected", matched: peer ? `matched with ${peer.id}` : "matched" }[state] ??
        state;
      const name =
        `Device ${setup.id} at latitude ${setup.lat}, longitude ${setup.lon}, ${stands}. Arrow keys move it, Enter goes to its card.`;
      if (pin.getAttribute("aria-label") !== name) pin.setAttribute("aria-label", name);
    }
  }
}

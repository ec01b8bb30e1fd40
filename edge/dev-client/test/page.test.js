// The pure modules of the page: set-ups, frames, positions, advice, code, facts.

import assert from "node:assert/strict";
import test from "node:test";

import { idleAdvice, idleTimeout, judge, obstacle, remedy, same } from "../web/advice.js";
import { rows, summary } from "../web/cluster.js";
import { follow, named, sentence } from "../web/facts.js";
import { describe, line } from "../web/frames.js";
import { bounds, degrees, place, REACH, reach, round, ruler, squeeze, ticks, view } from "../web/plane.js";
import { read as metrics } from "../web/services.js";
import { address, complete, DEFAULT, fault, freeId, read, write } from "../web/setup.js";
import { snippets } from "../web/snippets.js";
import { away, bytes, clipped, distance, since, size } from "../web/words.js";

const EDGE = "http://127.0.0.1:8080";

test("the page starts with the devices of 2019", () => {
  const found = read(DEFAULT).map(({ id, lat, lon, dialect }) => [id, lat, lon, dialect]);
  assert.deepEqual(found, [["a", "1", "1", "v1"], ["b", "1", "3", "v1"], ["c", "1", "2", "v1"], [
    "d",
    "1",
    "5",
    "v1",
  ]]);
  assert.equal(write(read(DEFAULT)), DEFAULT);
});

test("anything typed survives the address", () => {
  const strange = "a@b,c;d=e&f#g%h ü'\"<>\\💶";
  const setups = [
    complete({
      id: strange,
      lat: strange,
      lon: strange,
      app: strange,
      tag: strange,
      radius: strange,
      edge: strange,
      dialect: "classic",
    }),
    complete({ id: "", lat: "", lon: "" }),
  ];
  assert.deepEqual(read(`#${write(setups)}`), setups);
});

test("an invalid address yields no device, or one that can be corrected", () => {
  assert.deepEqual(read("#"), []);
  assert.deepEqual(read("#nothing&a@1"), []);
  assert.deepEqual(read("#a@1,%;mystery=1;dialect=future").map(({ lon, dialect }) => [lon, dialect]), [[
    "%",
    "v1",
  ]]);
});

test("a wrong set-up is reported by field, as the edge would", () => {
  const good = complete({ id: "a", lat: "-90", lon: "1.8e2", radius: ".5" });
  assert.equal(fault(good), null);
  const wrong = { id: "", lat: "90.1", lon: "east", radius: "0", app: "x".repeat(65), tag: "€".repeat(65) };
  for (const [name, value] of Object.entries(wrong)) assert.equal(fault({ ...good, [name]: value })[0], name);
  assert.equal(fault({ ...good, id: "€".repeat(64) }), null);
  assert.equal(fault({ ...good, lat: "" })[0], "lat");
});

test("a new device has a free id", () => {
  assert.equal(freeId(["a", "c"]), "b");
  const letters = [..."abcdefghijklmnopqrstuvwxyz"];
  assert.equal(freeId(letters), "device-27");
  assert.equal(freeId([...letters, "device-28"]), "device-29");
});

test("the address to connect to has the parameters given and no others", () => {
  const setup = complete({ id: "a&b", lat: "1", lon: "2", tag: "red" });
  for (const edge of [EDGE, `${EDGE}/`, "ws://127.0.0.1:8080", "127.0.0.1:8080"]) {
    assert.equal(address(setup, edge), `${EDGE}/device/connect?id=a%26b&lat=1&lon=2&tag=red`);
  }
});

test("a frame is described in one line, and acks and pings are quiet", () => {
  const described = (message) => Object.values(describe(JSON.stringify(message), "v1"));
  assert.deepEqual(described({ type: "message", from: "c", n: 1, text: "ciao" }), [
    "message",
    "ciao  (from c, n 1)",
    false,
  ]);
  assert.deepEqual(described({ type: "ack", received: 3, match: 7 }), ["ack", "received 3, match 7", true]);
  assert.deepEqual(described({ type: "matched", match: 7, peer: "c" }), [
    "matched",
    "match 7, peer c",
    false,
  ]);
  assert.deepEqual(Object.values(describe("null", "v1")), ["text", "null", false]);
  assert.deepEqual(Object.values(describe("{", "v1")), ["text", "{", false]);
  assert.deepEqual(Object.values(describe('{"type":"ack"}', "classic")), ["text", '{"type":"ack"}', false]);
  assert.deepEqual(Object.values(describe(new Uint8Array(1234), "v1")), ["binary", "1,234 bytes", false]);
});

test("a copied log has each raw frame", () => {
  const at = Date.UTC(2026, 0, 2, 3, 4, 5, 6);
  assert.equal(line({ at, way: "in", data: "ciào" }), "2026-01-02T03:04:05.006Z\t←\t5 bytes\tciào");
  assert.equal(
    line({ at, way: "out", data: new Uint8Array([0, 255]) }),
    "2026-01-02T03:04:05.006Z\t→\t2 bytes\tbinary 00ff",
  );
  assert.equal(line({ at, way: "note", data: "so" }), "2026-01-02T03:04:05.006Z\t·\tso");
});

test("amounts, times and lengths are formatted for people", () => {
  assert.deepEqual([0, 1, 65536].map(bytes), ["0 bytes", "1 byte", "65,536 bytes"]);
  assert.deepEqual([0.347, 9.999, 850, 111_178].map(distance), ["0.35 m", "10.00 m", "850 m", "111 km"]);
  assert.deepEqual([0, undefined, 1000].map((metres) => away(metres)), ["", "", ", 1,000 m away"]);
  assert.deepEqual([0.4, 999, 3214].map(since), ["+0 ms", "+999 ms", "+3.214 s"]);
  assert.equal(size("ciào"), 5);
  assert.deepEqual(clipped("abc", 3), { head: "abc", rest: 0 });
  assert.deepEqual(clipped("ab💶d", 3), { head: "ab", rest: 3 }); // never half a character
});

test("a device without a radius reaches as far as the rule of 2019 allows, on a plane", () => {
  assert.deepEqual(reach({ lat: 60, radius: NaN }), { high: REACH, wide: REACH });
  const { high, wide } = reach({ lat: 60, radius: 111_195 });
  assert.ok(Math.abs(high - 1) < 1e-9 && Math.abs(wide - 2) < 1e-9);
});

test("pixels and degrees convert both ways", () => {
  for (
    const spots of [[{ lat: 1, lon: 1 }, { lat: 1, lon: 5 }], [{ lat: 52.37, lon: 4.89, radius: 250 }], [{
      lat: 89,
      lon: -179,
      radius: 1e9,
    }, { lat: -89, lon: 179 }]]
  ) {
    const seen = view(bounds(spots), 300, 500, squeeze(spots));
    for (const { lat, lon } of spots) {
      const [x, y] = [seen.x(lon), seen.y(lat)];
      assert.ok(x >= 12 && x <= 288 && y >= 12 && y <= 488, `${x}, ${y}`);
      const found = place(seen, x, y);
      assert.ok(Math.hypot(found.lat - lat, found.lon - lon) * seen.high <= 1);
    }
  }
});

test("all of a reach is shown unless it is out of proportion", () => {
  const spots = [{ lat: 1, lon: 1 }, { lat: 1, lon: 5 }];
  assert.ok(bounds(spots).west < 1 - REACH);
  const { west, east } = bounds([{ lat: 0, lon: 0, radius: 100 }, { lat: 0, lon: 0.01, radius: 20_000_000 }]);
  assert.ok(east - west < 1);
});

test("reach is drawn as a circle: in metres as on earth, by the rule of 2019 as on a plane", () => {
  for (
    const spots of [[{ lat: 60, lon: 1, radius: 500 }], [{ lat: 60, lon: 1 }, {
      lat: 60,
      lon: 2,
      radius: 500,
    }]]
  ) {
    const seen = view(bounds(spots), 300, 500, squeeze(spots));
    const { high, wide } = reach(spots[0]);
    assert.ok(Math.abs((high * seen.high) / (wide * seen.wide) - 1) < 1e-9);
  }
});

test("the grid has round numbers", () => {
  assert.deepEqual([0.03, 1, 1.1, 7].map(round), [0.05, 1, 2, 10]);
  assert.deepEqual(ticks(-1.5, 2, 1), [-1, 0, 1, 2]);
  assert.deepEqual([degrees(-0.001, 1), degrees(52.375, 0.005)], ["0°", "52.375°"]);
  const { metres, pixels } = ruler({ wide: 100 }, 0, 110);
  assert.equal(metres, 100_000);
  assert.ok(pixels <= 110);
});

test("a service that is down is shown with advice", () => {
  const journal = { service: "journal", name: "journal", url: "http://j" };
  assert.deepEqual(judge(journal, { status: 200 }, EDGE), { kind: "good", text: "ready" });
  assert.match(
    judge(journal, { status: 0 }, EDGE).remedy,
    /^Start journal; make up starts everything\. Devices are not affected/,
  );
  assert.match(
    judge(journal, { status: 0, hidden: true }, EDGE).remedy,
    /CLOUDMATCH_HTTP_ORIGINS=http:\/\/127.0.0.1:8080/,
  );
  assert.match(
    judge({ ...journal, url: "http://localhost:8081" }, { status: 0 }, "http://192.0.2.1:8080").remedy,
    /CLOUDMATCH_EDGE_SERVICES/,
  );
  const behind = judge(journal, { status: 503, reasons: { nats: "not connected to NATS" } }, EDGE);
  assert.deepEqual([behind.why, behind.remedy], [
    "journal: not connected to NATS.",
    "Is NATS running? Services reconnect automatically.",
  ]);
  const edge0 = { service: "edge", name: "edge-0", url: EDGE };
  const full = judge(edge0, { status: 503, reasons: { devices: "full: 2 of 2 devices" } }, EDGE);
  assert.equal(full.why, "edge-0: full: 2 of 2 devices.");
  assert.match(full.remedy, /CLOUDMATCH_EDGE_MAX_CONNECTIONS/);
});

const process = (name, more) => ({ name, state: "alive", load: 0.256, version: "1.0", ...more });
const edge = (name, more) =>
  process(name, { devices: 1234, max_devices: 0, matched: 0, waiting: 0, away: 0, releasing: 0, ...more });

test("the cluster is a line with all states, and a table", () => {
  const edges = [
    edge("e0"),
    edge("e1", { state: "full", max_devices: 1234 }),
    edge("e2", { state: "dead", load: null, version: null, devices: null, max_devices: null, releasing: 7 }),
    edge("e3", { state: "left" }),
  ];
  const workers = [process("w0", { partitions: 128 }), process("w1", { state: "silent", partitions: null })];
  const status = { edges, workers, problems: [{ kind: "dead" }] };
  assert.deepEqual(summary(status), {
    kind: "warn",
    text: "2 edges, 1 dead, 1 full · 1 worker, 1 silent",
  });
  assert.deepEqual(summary({ edges: [edges[0]], workers: [], problems: [] }), {
    kind: "good",
    text: "1 edge · 0 workers",
  });
  assert.equal(summary({ ...status, problems: [{ kind: "dead" }, { kind: "conflict" }] }).kind, "bad");
  assert.deepEqual(rows(status), [
    ["e0", "alive", "26 %", "1,234", "", "1.0"],
    ["e1", "full", "26 %", "1,234 of 1,234", "", "1.0"],
    ["e2", "dead", "–", "–, 7 to release", "", "–"],
    ["e3", "left", "26 %", "1,234", "", "1.0"],
    ["worker w0", "alive", "26 %", "", "128", "1.0"],
    ["worker w1", "silent", "26 %", "", "–", "1.0"],
  ]);
});

test("localhost and 127.0.0.1 are the same edge", () => {
  assert.ok(same("http://localhost:8080", EDGE));
  assert.ok(same("http://[::1]:8080", EDGE));
  assert.ok(!same("http://localhost:8090", EDGE));
  assert.ok(!same("http://localhost.example:8080", EDGE));
  assert.ok(same("https://edge.example/a/", "https://edge.example/a"));
  assert.ok(!same("https://edge.example/a", "https://edge.example/b"));
  assert.ok(!same("http://localhost:8080/a", EDGE));
});

test("the reason why devices do not match comes with advice", () => {
  const far = { rules: ["own_reach", "their_reach"], distance: 222_356.4 };
  assert.equal(obstacle(far), "is too far away");
  assert.equal(remedy(far), "move them closer, or give both a radius above 222,357 m");
  const rounded = { rules: ["own_reach"], distance: 220_000 };
  assert.equal(remedy(rounded), "move them closer, or give both a radius above 244,000 m");
  assert.equal(
    remedy({ rules: ["own_reach"], distance: 0 }),
    "move them closer, or give both a larger radius",
  );
  assert.equal(obstacle({ rules: ["matched", "tag"] }), "is in another match, has another tag");
  assert.equal(remedy({ rules: ["matched", "tag"] }), "give both the same tag");
  assert.deepEqual([obstacle({ rules: [] }), remedy({ rules: [] })], ["should match in a moment", ""]);
});

test("code contains the set-up, whatever characters it has", () => {
  const setup = complete({ id: `it's "a"`, lat: "01.50", lon: "-2", radius: "250", app: "chess" });
  const [[, websocat], [, python], [, javascript]] = snippets(setup, EDGE);
  assert.ok(
    websocat.startsWith(
      `websocat --protocol cloudmatch.v1 'ws://127.0.0.1:8080/device/connect?id=it%27s+%22a%22&lat=01.50`,
    ),
  );
  assert.ok(
    python.includes(
      `cloudmatch.connect("${EDGE}", id="it's \\"a\\"", lat=1.5, lon=-2, app="chess", radius=250)`,
    ),
  );
  assert.ok(
    javascript.includes(
      `connect("${EDGE}", { id: "it's \\"a\\"", lat: 1.5, lon: -2, app: "chess", radius: 250 })`,
    ),
  );
  assert.ok(javascript.startsWith(`import { connect } from "${EDGE}/cloudmatch.js"`));
  const classic = snippets({ ...setup, dialect: "classic" }, EDGE);
  assert.ok(
    classic.every(([, code]) =>
      code.includes("ws://127.0.0.1:8080/device/connect?id=") && !code.includes("cloudmatch.v1")
    ),
  );
});

test("facts are sentences", () => {
  assert.equal(
    sentence({ type: "delivered", sender: "a", receiver: "c", sizes: [4, 5] }),
    "a → c: 2 payloads, 9 bytes",
  );
  assert.equal(
    sentence({ type: "claimed", sender: "a", receiver: "c", delivered: 7, sizes: [4, 5] }),
    "a → c: 7 payloads so far, says an edge that may have told it before",
  );
  assert.equal(sentence({ type: "later", a: 1 }), '{"type":"later","a":1}');
  assert.deepEqual(named({ type: "matched", device: "a", peer: "c" }), ["a", "c"]);
});

test("a device elsewhere is shown until its newest connection ends", () => {
  const others = new Map();
  const connected = { type: "connected", app: "x", device: "a", lat: 1, lon: 2, session: 1 };
  follow(others, connected);
  follow(others, { ...connected, session: 2 });
  follow(others, { type: "left", app: "x", device: "a", session: 1 });
  assert.equal(others.size, 1);
  follow(others, { type: "left", app: "x", device: "a", session: 2 });
  assert.equal(others.size, 0);
});

test("metrics are summed over their labels", () => {
  const metric = metrics('# HELP a b\n# TYPE a counter\na_total{x="1"} 2.0\na_total{x="2",y="}"} 3\nb 1e3\n');
  assert.deepEqual(["a_total", "b", "c"].map(metric), [5, 1000, 0]);
});

test("connections that end after the same silence again and again point to a proxy", () => {
  const ends = (silences) => silences.map((silence, at) => ({ at: 5 * at, silence }));
  assert.equal(idleTimeout(ends([5, 5.02, 5.1, 5])), 0);
  assert.equal(idleTimeout(ends([5, 5.02, 5.1, 5, 5])), 5);
  assert.equal(idleTimeout(ends([5, 0.1, 5, 17, 5, 3, 5, 9, 5])), 5);
  assert.equal(idleTimeout(ends([1, 2, 3, 4, 5, 6, 7, 8])), 0);
  assert.equal(idleTimeout(ends([0, 0, 0, 0, 0, 0])), 0);
  assert.equal(idleTimeout(ends([5, 5, 5, 5, 5]).map((end) => ({ ...end, at: 1 }))), 0);
  assert.match(idleAdvice(5).join(" "), /5\.0 s.*CLOUDMATCH_EDGE_HEARTBEAT/);
});

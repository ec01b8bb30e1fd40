/** What is wrong, and what to do about it. Pure. */

/**
 * Assess a service: {kind, text, why, remedy}. `answer` is that of its readiness probe: {status, reasons}, or
 * {status: 0, hidden} if there is none, or (`hidden`) one that this page may not read.
 */
export function judge({ service, name, url }, answer, origin) {
  if (!answer) return { kind: "wait", text: "asking…" };
  const { status, reasons = {}, hidden = false } = answer;
  if (status === 200) return { kind: "good", text: "ready" };
  if (hidden) {
    return {
      kind: "bad",
      text: "not readable",
      why: `${name} answers at ${url}, but this page may not read the answer.`,
      remedy: `Start it with CLOUDMATCH_HTTP_ORIGINS=${origin}, as make up does.`,
    };
  }
  if (!status && loopback(url) && !loopback(origin)) {
    return {
      kind: "bad",
      text: "not reachable",
      why: `${url} is an address on the edge’s own machine.`,
      remedy: "Set CLOUDMATCH_EDGE_SERVICES to addresses that browsers can reach.",
    };
  }
  if (!status) {
    return {
      kind: "bad",
      text: "down",
      why: `Nothing answers at ${url}.`,
      remedy: `Start ${name}; make up starts everything. ${LOSS[service] ?? ""}`.trim(),
    };
  }
  const failed = Object.entries(reasons);
  return {
    kind: "warn",
    text: "not ready",
    why: failed.length
      ? `${name}: ${failed.map(([, reason]) => reason).join("; ")}.`
      : `${name} answered ${status}.`,
    remedy: failed.map(([check]) => REMEDY[check]).find(Boolean) ?? "See its log.",
  };
}

const loopback = (url) => /^(localhost|127(\.\d+){3}|\[::1\])$/.test(new URL(url).hostname);

/** Whether two addresses are of the same server, judging by the addresses alone. */
export function same(one, other) {
  const [a, b] = [new URL(one), new URL(other)];
  const path = ({ pathname }) => pathname.replace(/\/*$/, "");
  if (path(a) !== path(b)) return false;
  return a.origin === b.origin || (a.port === b.port && loopback(one) && loopback(other));
}

// the effect while a service is down
const LOSS = {
  "match-engine": "Until then no devices are matched, unless another worker is running.",
  journal: "Devices are not affected; it catches up later.",
  "bridge-rabbit": "Devices are not affected; sizes wait in the stream.",
  analytics: "Devices are not affected; sizes wait in RabbitMQ.",
};

// by the name of the failed check
const REMEDY = {
  nats: "Is NATS running? Services reconnect automatically.",
  bucket: "It is loading the devices from NATS.",
  rabbitmq: "Is RabbitMQ running? Sizes wait in the stream meanwhile.",
  source: "Is RabbitMQ running? Sizes wait in the queue.",
  pipeline: "Is the Kafka-protocol broker running?",
  feed: "It is behind the stream of events: wait, or check its log.",
  stopping: "It is stopping.",
  devices: "Start another edge, or raise CLOUDMATCH_EDGE_MAX_CONNECTIONS. Its own devices are served.",
  descriptors:
    "Raise its limit of open files (ulimit -n), or start another edge. Its own devices are served.",
};

const [RECENT, ALIKE, TOLERANCE, SHORTEST] = [10, 5, 0.25, 0.5]; // ends; of them with the same silence; s

/**
 * The silence after which connections end again and again, in s; 0 if there is none. `ends` are those that broke off:
 * {at, silence}, in s. An edge judges its own connections in the same way (`idle_timeouts.py`); of those of this page
 * it cannot see the pings.
 */
export function idleTimeout(ends) {
  const sorted = ends.slice(-RECENT).filter(({ silence }) => silence >= SHORTEST).sort((a, b) =>
    a.silence - b.silence
  );
  for (let first = 0; first + ALIKE <= sorted.length; first++) {
    const alike = sorted.slice(first, first + ALIKE);
    const [shortest, longest] = [alike[0].silence, alike[ALIKE - 1].silence];
    const moments = alike.map(({ at }) => at);
    const same = longest - shortest <= Math.max(TOLERANCE, shortest / 20);
    if (same && Math.max(...moments) - Math.min(...moments) >= shortest) {
      return alike[Math.floor(ALIKE / 2)].silence;
    }
  }
  return 0;
}

/** What to do about that. */
export function idleAdvice(seconds) {
  return [
    `Connections of this page end after ${seconds.toFixed(1)} s of silence each time.`,
    "This is how the idle time-out of a proxy shows: raise that, or set CLOUDMATCH_EDGE_HEARTBEAT below it.",
  ];
}

// why two devices do not match, by match-engine's rules
const RULES = {
  matched: "is in another match",
  away: "is disconnected",
  tag: "has another tag",
  former: "was its previous peer",
  own_reach: "is out of its reach",
  their_reach: "does not reach it",
};

/**
 * Why a neighbour is not the peer, in a few words.
 * @param {{ rules: string[] }} neighbour
 */
export function obstacle({ rules }) {
  const both = rules.includes("own_reach") && rules.includes("their_reach");
  const words = rules.filter((rule) => !(both && rule === "their_reach")).map((
    rule,
  ) => (both && rule === "own_reach" ? "is too far away" : RULES[rule] ?? rule));
  return words.length ? words.join(", ") : "should match in a moment";
}

/**
 * What would let two devices match, by the rules that keep them apart; "" if nothing needs to be done.
 * @param {{ rules: string[], distance?: number }} neighbour
 */
export function remedy({ rules, distance }) {
  const found = [];
  if (rules.includes("tag")) found.push("give both the same tag");
  if (rules.includes("own_reach") || rules.includes("their_reach")) {
    // A distance of whole kilometres is rounded, and 0 is not told.
    const above = Math.ceil(distance % 1000 ? distance : (distance * 11) / 10 + 2000).toLocaleString("en");
    found.push(`move them closer, or give both a ${distance ? `radius above ${above} m` : "larger radius"}`);
  }
  if (rules.includes("former")) found.push("let one of them match another device first, or reconnect");
  if (rules.includes("away")) found.push("wait for its return");
  if (rules.includes("matched") && found.length === 0) found.push("wait until its match ends");
  return found.join("; ");
}

/** What is wrong and what to do about it, in words. Pure. */

/**
 * What of a service is worth saying: {kind, text, why, remedy}. `answer` is what its readiness probe said:
 * {status, reasons}, or {status: 0, hidden}: nothing, and whether it is only that this page may not read it.
 */
export function judge({ service, name, url }, answer, origin) {
  if (!answer) return { kind: "wait", text: "asking…" };
  const { status, reasons = {}, hidden = false } = answer;
  if (status === 200) return { kind: "good", text: "ready" };
  if (hidden) {
    return {
      kind: "bad",
      text: "not readable",
      why: `${name} answers at ${url}, but does not let this page read it.`,
      remedy: `Start it with CLOUDMATCH_HTTP_ORIGINS=${origin}, as make up does.`,
    };
  }
  if (!status && loopback(url) && !loopback(origin)) {
    return {
      kind: "bad",
      text: "not reachable",
      why: `${url} is an address within the edge’s own machine.`,
      remedy: "Set CLOUDMATCH_EDGE_SERVICES to addresses that browsers reach from here.",
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
  const said = Object.entries(reasons);
  return {
    kind: "warn",
    text: "not ready",
    why: said.length
      ? `${name}: ${said.map(([, reason]) => reason).join("; ")}.`
      : `${name} answers ${status}.`,
    remedy: said.map(([check]) => REMEDY[check]).find(Boolean) ?? "Its log says more.",
  };
}

const loopback = (url) => /^(localhost|127(\.\d+){3}|\[::1\])$/.test(new URL(url).hostname);

/** Whether two addresses are of one server, as far as one can tell by looking at them. */
export function same(one, other) {
  const [a, b] = [new URL(one), new URL(other)];
  return a.origin === b.origin || (a.port === b.port && loopback(one) && loopback(other));
}

// what is lost while a service is away
const LOSS = {
  "match-engine": "Until then nobody is matched, unless another worker runs.",
  journal: "Devices are not held up by it; it reads what it missed.",
  "bridge-rabbit": "Devices are not held up by it; sizes wait in the stream.",
  analytics: "Devices are not held up by it; sizes wait in RabbitMQ.",
};

// by the name of the check that failed
const REMEDY = {
  nats: "Is NATS running? Services connect again by themselves.",
  bucket: "It catches up with the devices that NATS keeps.",
  rabbitmq: "Is RabbitMQ running? Sizes wait in the stream meanwhile.",
  source: "Is RabbitMQ running? Its sizes wait in the queue.",
  pipeline: "Is the Kafka-protocol broker running?",
  feed: "It is behind the stream of events: wait, or look at its log.",
  stopping: "It is being stopped.",
};

// what keeps two devices apart, by match-engine's rules
const RULES = {
  matched: "is in another match",
  away: "has no connection now",
  tag: "has another tag",
  former: "has just parted from it",
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
  return words.length ? words.join(", ") : "should be matched in a moment";
}

/**
 * What would let two devices match, by the rules that keep them apart; "" if nothing needs to be done.
 * @param {{ rules: string[], distance?: number }} neighbour
 */
export function remedy({ rules, distance }) {
  const found = [];
  if (rules.includes("tag")) found.push("give both the same tag");
  if (rules.includes("own_reach") || rules.includes("their_reach")) {
    found.push(
      `bring them nearer, or give both a radius above ${Math.ceil(distance).toLocaleString("en")} m`,
    );
  }
  if (rules.includes("former")) found.push("let one of them meet another first, or connect it anew");
  if (rules.includes("away")) found.push("wait for its return");
  if (rules.includes("matched") && found.length === 0) found.push("wait until its match ends");
  return found.join("; ");
}

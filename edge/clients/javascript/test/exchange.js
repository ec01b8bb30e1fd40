// Two devices that send each other numbered payloads at a steady rate, and count wrong ones. Runs in Node and in a
// browser, while the test breaks connections.

const PAYLOADS_BETWEEN_RECEIPTS = 25;

/** Payload number n: text or binary, of a length of its own. */
function payload(n) {
  const text = `${n} ${"ø".repeat((n * 37) % 400)}`;
  return n % 3 === 0 ? new TextEncoder().encode(text) : text;
}

function same(one, other) {
  if (typeof one === "string" || typeof other === "string") return one === other;
  return one.length === other.length && one.every((byte, at) => byte === other[at]);
}

/** Send all payloads, `rate` a second; resolve when the last is delivered. */
async function send(device, { count, rate }) {
  const begin = performance.now();
  const receipts = [];
  for (let n = 1; n <= count; n++) {
    const ahead = begin + (1000 * n) / rate - performance.now();
    if (ahead > 0) await new Promise((resolve) => setTimeout(resolve, ahead));
    const receipt = n === count || n % PAYLOADS_BETWEEN_RECEIPTS === 0;
    const sent = device.send(payload(n), { receipt });
    if (receipt) receipts.push(sent);
    else await sent;
  }
  await Promise.all(receipts);
  return receipts.length;
}

/** Receive all payloads; resolve with how many were not the expected next one. */
async function receive(device, { count }, progress) {
  let wrong = 0;
  for await (const received of device) {
    progress.received++;
    if (!same(received, payload(progress.received))) wrong++;
    if (progress.received === count) break;
  }
  return wrong;
}

/**
 * Connect devices at `urls`, match them, let each send `count` payloads, and leave.
 *
 * @param {Function} connect
 * @param {{ urls: string[], count: number, rate: number, connection?: object }} options `connection` has more
 *   options of `connect`.
 * @param {Function} report Called often with the counts so far
 * @returns For each device: counts of payloads received, wrong ones, receipts, resumes and other events.
 */
export async function exchange(connect, { urls, count, rate, connection = {} }, report) {
  const progress = urls.map(() => ({
    received: 0,
    wrong: 0,
    receipts: 0,
    resumed: 0,
    peerLeft: 0,
    gap: 0,
    error: 0,
  }));
  const devices = urls.map((url, i) => {
    const device = connect(url, { id: `js-${i}`, lat: 1, lon: 1, app: "exchange", ...connection });
    for (const type of ["resumed", "peerLeft", "gap", "error"]) device.on(type, () => progress[i][type]++);
    return device;
  });
  const timer = setInterval(() => report(progress), 20);
  try {
    await Promise.all(devices.map((device) => device.matched()));
    await Promise.all(
      devices.map(async (device, i) => {
        const mine = progress[i];
        [mine.receipts, mine.wrong] = await Promise.all([
          send(device, { count, rate }),
          receive(device, { count }, mine),
        ]);
      }),
    );
    const result = progress.map((each) => ({ ...each }));
    await Promise.all(devices.map((device) => device.leave()));
    return result;
  } finally {
    clearInterval(timer);
    for (const device of devices) device.close();
  }
}

/** The journal's facts as sentences. Pure. */

import { away, bytes, count } from "./words.js";

const sum = (sizes) => sizes.reduce((total, size) => total + size, 0);

/** Describe a fact. */
export function sentence(fact) {
  switch (fact.type) {
    case "connected":
      return `${fact.device} connected to ${fact.edge}, at ${fact.lat}, ${fact.lon}`;
    case "left":
      return `${fact.device}’s connection ended, code ${fact.code}`;
    case "matched":
      return `${fact.device} and ${fact.peer} matched${away(fact.distance, "apart")}`;
    case "unmatched":
      return `${fact.device} and ${fact.peer} parted: ${fact.reason}`;
    case "delivered":
      return `${fact.sender} → ${fact.receiver}: ${count(fact.sizes.length, "payload")}, ${
        bytes(sum(fact.sizes))
      }`;
    case "claimed":
      return `${fact.sender} → ${fact.receiver}: ${
        count(fact.delivered, "payload")
      } so far, says an edge that may have told it before`;
    case "reported":
      return `${fact.device} reported ${fact.eventType} ${fact.amount}`;
    default:
      return JSON.stringify(fact);
  }
}

/** The devices that a fact names. */
export const named = (fact) =>
  [fact.device, fact.peer, fact.sender, fact.receiver].filter((id) => id !== undefined);

/** Track which devices are connected, `MOST` at most: {id, app, lat, lon} by app and id. */
export function follow(others, fact) {
  if (fact.type !== "connected" && fact.type !== "left") return;
  const key = JSON.stringify([fact.app, fact.device]);
  const known = others.get(key);
  if (fact.type === "left") {
    if (!known || known.session === fact.session) others.delete(key);
    return;
  }
  others.delete(key); // the newest last
  others.set(key, { id: fact.device, app: fact.app, lat: fact.lat, lon: fact.lon, session: fact.session });
  if (others.size > MOST) others.delete(others.keys().next().value);
}

const MOST = 300;

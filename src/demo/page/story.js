// The trail of one delivery, told in sentences.

import { el } from "./api.js";

/** Draws the story of a delivery of `message` to `phone` into `place`. */
export function drawStory(place, message, phone, delivery) {
  const fingerprint = JSON.stringify([message.id, delivery, phone.label]);
  if (place.dataset.fingerprint === fingerprint) return;
  place.dataset.fingerprint = fingerprint;
  const start = Date.parse(message.created_at);
  // The gateway tells the story itself; the fields beside the text are for programs.
  const steps = (delivery.trail ?? []).map((entry) =>
    el("li", { "data-state": tone(entry), "data-kind": entry.kind },
      el("time", { datetime: entry.at }, clock(Date.parse(entry.at) - start)), entry.text));
  const begin = el("li", { "data-state": "pending" }, el("time", { datetime: message.created_at }, "at the start"),
    "The gateway wrote the message to disk and answered 202.");
  place.replaceChildren(
    el("h3", {}, phone.label),
    el("p", { class: "hint" }, `Now ${delivery.state}${delivery.reason ? ` (${words(delivery.reason)})` : ""}.`),
    el("ol", { class: "trail" }, begin, ...steps));
}

const words = (name) => String(name).replaceAll("_", " ");

function clock(ms) {
  if (!Number.isFinite(ms)) return "";
  return ms < 1000 ? `after ${ms} ms` : `after ${(ms / 1000).toFixed(1)} s`;
}

// The colour of an entry's dot: what it says of the delivery.
function tone(entry) {
  switch (entry.kind) {
    case "attempted": return entry.reason ? "failed" : "accepted";
    case "received": return entry.state;
    case "ended": return "expired";
    default: return "pending";
  }
}

// The trail of one delivery, told in sentences.

import { el } from "./api.js";

/** Draws the story of a delivery of `message` to `phone` into `place`. */
export function drawStory(place, message, phone, delivery) {
  const fingerprint = JSON.stringify([message.id, delivery, phone.label]);
  if (place.dataset.fingerprint === fingerprint) return;
  place.dataset.fingerprint = fingerprint;
  const start = Date.parse(message.created_at);
  const steps = (delivery.trail ?? []).map((entry) => {
    const [text, state, words] = sentence(entry);
    return el("li", { "data-state": state }, el("time", { datetime: entry.at }, clock(Date.parse(entry.at) - start)),
      text, words ? el("q", {}, words) : null);
  });
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

// What happened, the colour of its dot, and the vendor's own words.
function sentence(entry) {
  switch (entry.event) {
    case "decided": {
      const order = entry.channels?.length ? `Route: ${entry.channels.join(", then ")}.` : "No channel can reach this target.";
      const left = (entry.skipped ?? []).map((skip) => ` Left out: ${skip.channel} (${words(skip.reason)}${skip.detail ? `: ${skip.detail}` : ""}).`);
      return [order + left.join(""), entry.channels?.length ? "accepted" : "failed", null];
    }
    case "attempted": {
      const first = entry.attempt > 1 ? `try ${entry.attempt} by ${entry.channel}` : `first try by ${entry.channel}`;
      const took = entry.latency_ms === undefined ? "" : ` after ${entry.latency_ms} ms`;
      if (!entry.reason) return [`Accepted on the ${first}${took}.`, "accepted", null];
      const status = [entry.vendor?.status && `HTTP ${entry.vendor.status}`, entry.vendor?.code].filter(Boolean).join(" ");
      return [`Refused on the ${first}${took}: ${words(entry.reason)}${status ? ` (${status})` : ""}. ${next(entry.next)} `,
        "failed", entry.vendor?.words ?? null];
    }
    case "received":
      return [`The ${entry.witness ?? "vendor"} says: ${entry.state}.`, entry.state, null];
    case "ended":
      return [`Ended by the gateway: ${words(entry.reason)}.`, "expired", null];
    default:
      return [`${words(entry.event)}.`, "pending", null];
  }
}

function next(step) {
  if (!step) return "That ends this delivery.";
  if (step.retry_in_ms !== undefined) return `Tried again in ${(step.retry_in_ms / 1000).toFixed(1)} s.`;
  if (step.channel) return `Next: ${step.channel}.`;
  return "";
}

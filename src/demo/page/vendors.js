// The levers that break a vendor.

import { el, setVendor } from "./api.js";

const MODES = [
  ["ok", "Works", "It answers as it should."],
  ["down", "Outage", "It answers 503 to everything. The gateway tries again, ever more slowly, until the message expires."],
  ["refused", "Refuses us", "It no longer takes our credentials. The channel says so to ops; what waits for it is tried again after half a minute."],
];

/** Draws one row per vendor, and says in words what its lever does. */
export function drawVendors(place, vendors) {
  const fingerprint = JSON.stringify(vendors);
  if (place.dataset.fingerprint === fingerprint) return;
  place.dataset.fingerprint = fingerprint;
  const focused = document.activeElement?.dataset?.lever;
  place.replaceChildren(...vendors.map(row));
  if (focused) place.querySelector(`[data-lever="${focused}"]`)?.focus();
}

function row(vendor) {
  const mode = MODES.find(([id]) => id === vendor.mode) ?? MODES[0];
  const buttons = MODES.map(([id, text]) => el("button", {
    type: "button",
    "aria-pressed": String(id === vendor.mode),
    "data-lever": `${vendor.provider}-${id}`,
    onclick: () => setVendor(vendor.provider, id),
  }, text));
  return el("div", { class: "vendor" },
    el("h3", {}, vendor.name, el("span", { class: "tag", "data-bad": String(vendor.channel_state !== "ok") },
      `channel ${vendor.channel_state.replaceAll("_", " ")}`)),
    el("div", { class: "switch", role: "group", "aria-label": `What ${vendor.name} does` }, ...buttons),
    el("p", { class: "hint" }, mode[2]));
}

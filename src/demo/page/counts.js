// The counts of the newest message: a bar, a legend, and the sum that must be right.

import { el } from "./api.js";

const WORDS = {
  pending: "not handed over yet, or between tries",
  accepted: "the vendor or the inbox has it",
  delivered: "the phone acknowledged it",
  displayed: "it was shown",
  clicked: "a person tapped it",
  failed: "no channel could take it",
  unknown: "the outcome was never learned",
  expired: "its time was over first",
  cancelled: "taken back",
  suppressed: "never meant to be sent",
};

/** Draws a message's counts into `place`. */
export function drawCounts(place, message) {
  const { targeted, now, reached } = message.counts;
  const states = Object.keys(WORDS).filter((state) => now[state] > 0);
  const sum = Object.values(now).reduce((total, n) => total + n, 0);
  const fingerprint = JSON.stringify([message.id, message.counts, message.reasons]);
  if (place.dataset.fingerprint === fingerprint) return;
  place.dataset.fingerprint = fingerprint;
  place.dataset.message = message.id;
  place.dataset.done = String(message.state === "done");

  const bar = el("div", { class: "bar", "aria-hidden": "true" }, ...states.map((state) => {
    const part = el("span", { "data-state": state });
    part.style.flexGrow = now[state];
    return part;
  }));
  const legend = el("ul", { class: "legend" }, ...states.map((state) =>
    el("li", { "data-state": state }, el("span", { class: "dot", "aria-hidden": "true" }), el("b", {}, String(now[state])),
      el("span", {}, state), el("i", {}, WORDS[state]))));
  const terms = states.map((state) => `${now[state]} ${state}`).join(" + ") || "0";
  const right = sum === targeted;
  const total = el("p", { class: "sum" }, `${terms} = `,
    el("b", { id: "sum", "data-ok": String(right) }, `${targeted} targeted ${right ? "✓" : "✗"}`));
  const ever = ["accepted", "delivered", "displayed", "clicked"].filter((state) => reached[state] > 0);
  const far = el("p", { class: "reached" }, `Ever reached: ${ever.map((state) => `${state} ${reached[state]}`).join(", ") || "nobody yet"}.`);
  const reasons = Object.entries(message.reasons ?? {});
  const why = reasons.length === 0 ? null
    : el("p", { class: "reached" }, `Why not: ${reasons.map(([reason, n]) => `${reason.replaceAll("_", " ")} ${n}`).join(", ")}.`);
  place.replaceChildren(bar, legend, total, far, why ?? "");
}

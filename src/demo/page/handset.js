// The phones: one drawing each, kept over refreshes so that only what is new moves.

import { el, setPhone, tap } from "./api.js";

/** One phone on the page. */
export class Handset {
  /** `choose` is called with the phone's id when its outcome is pressed. */
  constructor(phone, choose) {
    this.id = phone.id;
    this.shown = new Set();
    this.signal = el("span");
    this.clock = el("div", { class: "clock", "aria-hidden": "true" });
    this.notes = el("div", { class: "notes", "aria-live": "polite" });
    this.away = el("p", { class: "away" }, "offline");
    this.screen = el("div", { class: "screen", role: "group", "aria-label": `Screen of ${phone.label}` },
      el("div", { class: "statusbar", "aria-hidden": "true" }, this.signal), this.clock, this.notes, this.away);
    this.badge = el("span", { class: "tag" });
    this.mood = el("span", { class: "tag" });
    this.outcome = el("button", { type: "button", class: "outcome", disabled: true, onclick: () => choose(this.id) });
    this.levers = el("div", { class: "levers" });
    this.root = el("li", { class: "phone", "data-phone": phone.id },
      el("div", { class: "handset" }, this.screen),
      el("div", { class: "about" }, el("h3", {}, phone.label), el("div", { class: "badges" }, this.badge, this.mood),
        this.outcome, this.levers));
  }

  /** Shows what the phone has, and what became of the message on the way to it. */
  refresh(phone, delivery, now) {
    const two = (n) => String(n).padStart(2, "0");
    this.clock.textContent = `${two(now.getHours())}:${two(now.getMinutes())}`;
    this.signal.textContent = phone.online ? "●●●" : "○○○";
    this.root.dataset.online = String(phone.online);
    this.away.hidden = phone.online;
    this.away.textContent = phone.switched_on ? "connecting…" : "offline";
    this.badge.textContent = phone.transport;
    this.mood.textContent = MOODS[phone.mood] ?? phone.mood;
    this.mood.dataset.bad = String(phone.dead);
    this.mood.hidden = !phone.mood;
    this.#arrive(phone.notifications);
    this.#outcome(delivery);
    this.#levers(phone);
  }

  #arrive(notifications) {
    // Oldest first, so that the newest ends on top.
    for (const note of [...notifications].reverse()) {
      if (this.shown.has(note.key)) continue;
      const first = this.shown.size === 0 && !this.ready;
      this.shown.add(note.key);
      this.notes.prepend(el("button", {
        type: "button",
        class: first ? "note" : "note new",
        title: "Tap it",
        onclick: () => tap(this.id, note.message_id),
      }, el("small", {}, "Demo app"), el("b", {}, note.title ?? "(no title)"), el("span", {}, note.body ?? "")));
    }
    while (this.notes.childElementCount > 3) this.notes.lastChild.remove();
    this.ready = true;
  }

  #outcome(delivery) {
    const text = delivery ? sentence(delivery) : "waiting for a message";
    this.outcome.disabled = !delivery?.id;
    if (delivery) this.outcome.dataset.state = delivery.state;
    if (this.outcome.textContent !== text) this.outcome.replaceChildren(el("span", { class: "dot", "aria-hidden": "true" }), text);
    const lit = delivery && ["accepted", "delivered", "displayed", "clicked"].includes(delivery.state);
    this.root.dataset.lit = String(Boolean(lit));
    this.root.dataset.state = delivery?.state ?? "none";
  }

  #levers(phone) {
    const wanted = JSON.stringify([phone.switched_on, phone.dead]);
    if (wanted === this.lastLevers) return;
    this.lastLevers = wanted;
    const lever = (text, label, change) => el("button", {
      type: "button",
      class: "quiet",
      "aria-label": `${label}: ${phone.label}`,
      title: label,
      onclick: () => setPhone(this.id, change),
    }, text);
    const power = phone.switched_on
      ? lever("Go offline", "Take it offline", { online: false })
      : lever("Go online", "Bring it online", { online: true });
    const token = phone.direct ? null : phone.dead
      ? lever("Revive", "Make its token good again", { dead: false })
      : lever("Kill", "Make its token dead", { dead: true });
    this.levers.replaceChildren(power, ...(token ? [token] : []));
  }
}

const MOODS = {
  dead: "token is dead",
  flaky: "first try fails",
  limited: "too fast at first",
  slow: "slow",
};

function sentence(delivery) {
  const why = delivery.reason ? `: ${delivery.reason.replaceAll("_", " ")}` : "";
  const by = delivery.channel ? ` by ${delivery.channel}` : "";
  return `${delivery.state}${by}${why}`;
}

// The phones: one drawing each, kept over refreshes so that only what is new moves.

import { el, setPhone } from "./api.js";

/** One phone on the page. */
export class Handset {
  /** `choose` is called with the phone's id when its outcome is pressed. */
  constructor(phone, choose) {
    this.id = phone.id;
    this.shown = new Set();
    this.time = el("span");
    this.signal = el("span");
    this.clock = el("div", { class: "clock", "aria-hidden": "true" });
    this.notes = el("div", { class: "notes", "aria-live": "polite" });
    this.away = el("p", { class: "away" }, "offline");
    this.screen = el("div", { class: "screen", role: "group", "aria-label": `Screen of ${phone.label}` },
      el("div", { class: "statusbar", "aria-hidden": "true" }, this.time, this.signal), this.clock, this.notes, this.away);
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
    const hhmm = now.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    this.time.textContent = hhmm;
    this.clock.textContent = hhmm;
    this.signal.textContent = phone.online ? "●●●" : "○○○";
    this.root.dataset.online = String(phone.online);
    this.away.hidden = phone.online;
    this.badge.textContent = phone.transport;
    this.mood.textContent = phone.mood;
    this.mood.dataset.bad = String(phone.bad);
    this.mood.hidden = !phone.mood;
    this.#arrive(phone.notifications);
    this.#outcome(delivery);
    this.#levers(phone);
  }

  #arrive(notifications) {
    for (const note of notifications) {
      if (this.shown.has(note.key)) continue;
      const first = this.shown.size === 0 && !this.ready;
      this.shown.add(note.key);
      this.notes.prepend(el("div", { class: first ? "note" : "note new", "data-message": note.message_id },
        el("small", {}, "Demo app"), el("b", {}, note.title ?? "(no title)"), el("p", {}, note.body ?? "")));
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
    const wanted = JSON.stringify([phone.online, phone.can_go_offline, phone.dead]);
    if (wanted === this.lastLevers) return;
    this.lastLevers = wanted;
    const lever = (text, change) => el("button", { type: "button", class: "quiet", onclick: () => setPhone(this.id, change) }, text);
    this.levers.replaceChildren(phone.can_go_offline
      ? lever(phone.online ? "Take offline" : "Bring online", { online: !phone.online })
      : lever(phone.dead ? "Revive the token" : "Kill the token", { dead: !phone.dead }));
  }
}

function sentence(delivery) {
  const why = delivery.reason ? `: ${delivery.reason.replaceAll("_", " ")}` : "";
  const by = delivery.channel ? ` by ${delivery.channel}` : "";
  return `${delivery.state}${by}${why}`;
}

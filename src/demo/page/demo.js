// The page: asks, compares, draws. All that it shows comes from the public API and from the demo's phones.

import * as api from "./api.js";
import { drawCounts } from "./counts.js";
import { Handset } from "./handset.js";
import { drawStory } from "./story.js";
import { drawVendors } from "./vendors.js";

const at = (id) => document.getElementById(id);
const handsets = new Map();
let chosen = null;
let message = null;
let deliveries = [];
let world = { phones: [], vendors: [] };
let quietUntil = 0;

async function start() {
  try {
    await api.connect();
  } catch (error) {
    health(false, error.message);
    setTimeout(start, 1000);
    return;
  }
  at("compose").addEventListener("submit", send);
  for (const field of ["title", "body"]) at(field).addEventListener("input", showCall);
  showCall();
  refresh();
}

function showCall() {
  const body = JSON.stringify(api.envelope(at("title").value, at("body").value), null, 2);
  at("call").textContent = `POST ${api.config.url}/v1/messages\nAuthorization: Bearer ${api.config.api_key.slice(0, 12)}…\n\n${body}`;
}

async function send(event) {
  event.preventDefault();
  at("send").disabled = true;
  try {
    const { id } = await api.send(api.envelope(at("title").value, at("body").value));
    at("send-note").textContent = `accepted as ${id.slice(0, 12)}…`;
    // The phones of the last message go dark before those of the new one light up.
    deliveries = [];
    message = await api.message(id);
    draw();
  } catch (error) {
    at("send-note").textContent = error.message;
  } finally {
    at("send").disabled = false;
  }
}

// Asks for everything, again and again; sooner while something moves.
async function refresh() {
  let moving = true;
  try {
    const [seen, newest] = await Promise.all([api.world(), api.newest()]);
    world = seen;
    // The newest message is shown whoever sent it: the page's button or a curl.
    if (newest && newest.id !== message?.id) deliveries = [];
    message = newest ? await api.message(newest.id) : null;
    if (message) deliveries = await api.deliveries(message.id);
    if (message?.state === "done") moving = false;
    draw();
    await story();
    health(true, "gateway answers");
  } catch (error) {
    health(false, error.message);
  }
  const now = Date.now();
  if (moving) quietUntil = now + 3000;
  setTimeout(refresh, now < quietUntil ? 300 : 900);
}

function draw() {
  const now = new Date();
  const byDevice = new Map(deliveries.map((delivery) => [delivery.device_id, delivery]));
  for (const phone of world.phones) {
    if (!handsets.has(phone.id)) {
      const handset = new Handset(phone, choose);
      handsets.set(phone.id, handset);
      at("phones").append(handset.root);
    }
    const waiting = message ? { state: "pending" } : null;
    handsets.get(phone.id).refresh(phone, byDevice.get(phone.id) ?? waiting, now);
  }
  drawVendors(at("vendors"), world.vendors);
  if (message) drawCounts(at("counts"), message);
}

function choose(id) {
  chosen = id;
  story().then(() => at("story-panel").focus({ preventScroll: window.innerWidth > 1180 }));
}

async function story() {
  const phone = world.phones.find((phone) => phone.id === chosen);
  const listed = deliveries.find((delivery) => delivery.device_id === chosen);
  // While a newer message is being fetched the list is still that of the one before.
  if (!phone || !listed?.id || listed.message_id !== message?.id) return;
  drawStory(at("story"), message, phone, await api.delivery(message.id, listed.id));
}

function health(ok, text) {
  const place = at("health");
  if (place.textContent !== text) place.textContent = text;
  place.dataset.ok = String(ok);
}

start();

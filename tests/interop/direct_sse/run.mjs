// A phone that listens to server-sent events with a client that is not ours, `eventsource` for Node, which keeps to the
// algorithm of browsers: docs/phones.md as another implementation reads it.
//
// Environment: ANYPUSH_URL, ANYPUSH_DEVICE_SECRET, ANYPUSH_DEVICE_ID, ANYPUSH_API_KEY.

import assert from "node:assert/strict";
import path from "node:path";
import { createRequire } from "node:module";

const require = createRequire(path.join(process.cwd(), "package.json"));
const { EventSource } = require("eventsource");
const VERSION = require("eventsource/package.json").version;

const { ANYPUSH_URL: URL_, ANYPUSH_DEVICE_SECRET: SECRET, ANYPUSH_DEVICE_ID: DEVICE, ANYPUSH_API_KEY: KEY } = process.env;
const PATIENCE = 60_000;

async function call(method, url, body, key = SECRET) {
  const answer = await fetch(URL_ + url, {
    method,
    headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const json = await answer.json();
  assert.ok(answer.ok, `${method} ${url}: ${answer.status} ${JSON.stringify(json)}`);
  return json;
}

async function send(n) {
  const to = { device_ids: [DEVICE] };
  const body = { to, data: { n: String(n) }, route: { steps: [{ use: "direct" }] } };
  return (await call("POST", "/v1/messages", body, KEY)).id;
}

async function until(what, holds) {
  for (const end = Date.now() + PATIENCE; Date.now() < end; ) {
    if (await holds()) return;
    await new Promise((wait) => setTimeout(wait, 50));
  }
  assert.fail(`never: ${what}`);
}

/** The delivery of a message to this phone has reached this state. */
async function reached(id, state) {
  const count = async () => (await call("GET", `/v1/messages/${id}`, undefined, KEY)).counts.reached[state];
  await until(`${id} ${state}`, async () => (await count()) === 1);
}

/** A phone as an app writes one: what it saw, in order, each message once. */
function listen({ secret = SECRET, query = "" } = {}) {
  const seen = { ids: [], messages: [], opened: 0, hello: null, told: [], error: null };
  const headers = secret ? { Authorization: `Bearer ${secret}` } : {};
  const fetched = (url, init) => fetch(url, { ...init, headers: { ...init.headers, ...headers } });
  const source = new EventSource(`${URL_}/v1/device/events${query}`, { fetch: fetched });
  source.addEventListener("open", () => (seen.opened += 1));
  source.addEventListener("hello", (event) => (seen.hello = event));
  source.addEventListener("message", (event) => {
    const message = JSON.parse(event.data);
    assert.equal(event.lastEventId, message.cursor);
    if (!seen.ids.includes(message.id)) seen.messages.push(message);
    seen.ids.push(message.id);
  });
  for (const name of ["superseded", "revoked", "recall"]) {
    source.addEventListener(name, () => {
      seen.told.push(name);
      if (name !== "recall") source.close();
    });
  }
  source.addEventListener("error", (event) => (seen.error = event));
  return { source, seen };
}

const cases = {
  async the_first_event_says_where_the_phone_is_and_how_the_line_beats() {
    const { source, seen } = listen();
    await until("hello", () => seen.hello);
    const hello = JSON.parse(seen.hello.data);
    assert.equal(seen.hello.lastEventId, hello.cursor);
    assert.ok(hello.heartbeat.interval > 0);
    source.close();
  },

  async a_wrong_secret_ends_it_for_good() {
    for (const secret of [`${SECRET.slice(0, -1)}${SECRET.endsWith("A") ? "B" : "A"}`, "apk_test_nothing", null]) {
      const { source, seen } = listen({ secret });
      await until("refused", () => seen.error);
      assert.equal(seen.error.code, 401);
      assert.equal(source.readyState, EventSource.CLOSED);
    }
  },

  async a_message_comes_until_the_phone_comes_again_with_its_cursor() {
    const id = await send(1);
    const first = listen();
    await until("the message", () => first.seen.ids.includes(id));
    first.source.close();
    const second = listen();
    await until("the same again", () => second.seen.ids.includes(id));
    second.source.close();
    const third = listen({ query: `?after=${second.seen.messages.at(-1).cursor}` });
    await reached(id, "delivered");
    const next = await send(2);
    await until("the next", () => third.seen.ids.includes(next));
    assert.deepEqual(third.seen.ids, [next]);
    await call("POST", "/v1/device/ack", { messages: [next] });
    await reached(next, "delivered");
    third.source.close();
  },

  async a_client_that_only_listens_gets_everything_once_and_in_order() {
    const sent = [];
    for (let n = 0; n < 230; n += 1) sent.push(await send(n));
    const { source, seen } = listen();
    await until("all", () => seen.messages.length >= sent.length);
    assert.deepEqual(seen.messages.map((message) => message.id), sent);
    // It came again by itself, as the gateway asked, and what it had was not sent again.
    assert.ok(seen.opened >= 3, `${seen.opened}`);
    assert.deepEqual(seen.ids, sent);
    for (const id of sent.slice(0, 200)) await reached(id, "delivered");
    await call("POST", "/v1/device/ack", { cursor: seen.messages.at(-1).cursor });
    for (const id of sent.slice(200)) await reached(id, "delivered");
    source.close();
  },

  async the_newest_connection_wins() {
    const old = listen();
    await until("open", () => old.seen.hello);
    const young = listen();
    await until("superseded", () => old.seen.told.length);
    assert.deepEqual(old.seen.told, ["superseded"]);
    await until("open", () => young.seen.hello);
    const id = await send(3);
    await until("the message", () => young.seen.ids.includes(id));
    await call("POST", "/v1/device/receipts", [{ message_id: id, event: "clicked" }]);
    await reached(id, "clicked");
    young.source.close();
  },

  async a_ticket_is_good_for_one_stream() {
    const { ticket } = await call("POST", "/v1/device/ticket");
    const first = listen({ secret: null, query: `?ticket=${ticket}` });
    await until("hello", () => first.seen.hello);
    first.source.close();
    const again = listen({ secret: null, query: `?ticket=${ticket}` });
    await until("refused", () => again.seen.error);
    assert.equal(again.seen.error.code, 401);
  },
};

let failed = 0;
for (const [name, test] of Object.entries(cases)) {
  try {
    await test();
  } catch (error) {
    failed += 1;
    console.error(`FAILED ${name}`, error);
  }
}
const passed = Object.keys(cases).length - failed;
console.log(`eventsource ${VERSION}: ${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);

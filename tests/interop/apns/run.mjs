// The client that most Node backends use for APNs, @parse/node-apn, against the sandbox.
//
// The client is used as an application uses it, but for the address, the port and the authority to trust. Each case says
// what the client must make of an answer: if the sandbox answered in another shape than Apple, the client would say something
// else.
//
// Environment: SANDBOX_URL, and FIXTURES: a directory for what was on the wire, or empty.

import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { createRequire } from "node:module";

const require = createRequire(path.join(process.cwd(), "package.json"));
const apn = require("@parse/node-apn");
const VERSION = require("@parse/node-apn/package.json").version;

const SANDBOX = new URL(process.env.SANDBOX_URL);
const FIXTURES = process.env.FIXTURES ?? "";
const TEAM = "INTEROP001";
const OTHER_TEAM = "INTEROP002";
const BUNDLE = "com.example.app";

async function control(method, url, body) {
  const answer = await fetch(new URL(`/_sandbox${url}`, SANDBOX), {
    method,
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await answer.text();
  assert.ok(answer.ok, `${method} ${url}: ${answer.status} ${text}`);
  return text.startsWith("{") ? JSON.parse(text) : text;
}

const token = (start) => start.padEnd(64, "0");

function provider(options) {
  return new apn.Provider({ address: "localhost", port: Number(SANDBOX.port), ca: [ca], ...options });
}

function notification(more = {}) {
  const made = new apn.Notification();
  made.topic = BUNDLE;
  made.pushType = "alert";
  made.alert = { title: "Order shipped", body: "Your parcel leaves today" };
  made.payload = { anypush_id: "msg_interop" };
  return Object.assign(made, more);
}

/** The one failure of a push, which the client must see as this. */
async function fails(client, start, status, reason, more) {
  const { sent, failed } = await client.send(notification(more), token(start));
  assert.equal(sent.length, 0, `${reason}: it was sent`);
  assert.equal(failed.length, 1);
  if (reason === "InternalServerError") {
    // The client does not look into a 500.
    assert.match(String(failed[0].error?.message), /^Error 500/);
    return failed[0];
  }
  assert.deepEqual([failed[0].status, failed[0].response?.reason], [status, reason], JSON.stringify(failed[0]));
  return failed[0];
}

async function passes(client, start, more) {
  const { sent, failed } = await client.send(notification(more), token(start));
  assert.deepEqual([sent.length, failed], [1, []]);
  assert.equal(sent[0].device, token(start));
}

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

// --- cases: each gets a fresh client ---

const cases = {
  async alert_with_everything(client) {
    await passes(client, "a1", {
      alert: {
        title: "Order shipped", subtitle: "#42", body: "Your parcel leaves today", "title-loc-key": "T",
        "title-loc-args": ["1"], "loc-key": "B", "loc-args": ["2"], "launch-image": "l.png",
      },
      badge: 3,
      sound: { critical: 1, name: "ping.aiff", volume: 0.5 },
      category: "ORDER",
      threadId: "orders",
      targetContentIdentifier: "order-42",
      mutableContent: true,
      interruptionLevel: "time-sensitive",
      relevanceScore: 0.5,
      priority: 10,
      expiry: 4_000_000_000,
      collapseId: "order-42",
      id: "5f1c0e9e-3d5b-4a8e-9a63-0a0f5d1c7a11",
      payload: { anypush_id: "msg_interop", orderId: "42", imageUrl: "https://cdn.example.com/42.png" },
    });
  },
  async background(client) {
    await passes(client, "a2", { alert: undefined, contentAvailable: true, pushType: "background", priority: 5 });
  },
  async voip_may_be_longer(client) {
    const payload = { anypush_id: "msg_interop", filler: "x".repeat(4900) };
    await passes(client, "a3", { topic: `${BUNDLE}.voip`, pushType: "voip", alert: undefined, payload });
  },
  async nothing_is_stored_with_expiration_0(client) {
    await passes(client, "a4", { expiry: 0 });
  },
  async dead(client) {
    const failure = await fails(client, "dead", 410, "Unregistered");
    assert.ok(Math.abs(failure.response.timestamp - Date.now()) < 60_000, "milliseconds of now");
  },
  async dead_since_long(client) {
    const failure = await fails(client, "01dead", 410, "Unregistered");
    assert.ok(Date.now() - failure.response.timestamp > 29 * 86_400_000, "milliseconds of a month ago");
  },
  async expired_token(client) {
    await fails(client, "c0de22", 410, "ExpiredToken");
  },
  async bad_token(client) {
    await fails(client, "bad0", 400, "BadDeviceToken");
  },
  async token_of_another_app(client) {
    await fails(client, "babe", 400, "DeviceTokenNotForTopic");
  },
  async topic_of_another_team(client) {
    await fails(client, "a5", 400, "TopicDisallowed", { topic: "com.example.other" });
  },
  async no_topic(client) {
    await fails(client, "a6", 400, "MissingTopic", { topic: undefined });
  },
  async topic_without_what_its_type_asks_for(client) {
    await fails(client, "a7", 400, "BadTopic", { pushType: "voip" });
  },
  async unknown_push_type(client) {
    await fails(client, "a8", 400, "InvalidPushType", { pushType: "loud" });
  },
  async bad_priority(client) {
    await fails(client, "a9", 400, "BadPriority", { priority: 7 });
  },
  async background_is_never_urgent(client) {
    await fails(client, "aa", 400, "BadPriority", { pushType: "background", priority: 10 });
  },
  async collapse_id_too_long(client) {
    await fails(client, "ab", 400, "BadCollapseId", { collapseId: "x".repeat(65) });
  },
  async message_id_is_no_uuid(client) {
    await fails(client, "ac", 400, "BadMessageId", { id: "msg_1" });
  },
  async payload_too_large(client) {
    await fails(client, "ad", 413, "PayloadTooLarge", { payload: { filler: "x".repeat(4096) } });
  },
  async too_many_is_tried_again(client) {
    await passes(client, "0429");
  },
  async unavailable_is_tried_again(client) {
    await passes(client, "f1a0");
  },
  async too_many_for_one_token(client) {
    await fails(client, "c0de26", 429, "TooManyRequests");
  },
  async internal_error(client) {
    await fails(client, "c0de30", 500, "InternalServerError");
  },
  async shutdown(client) {
    await fails(client, "c0de32", 503, "Shutdown");
  },
  async key_of_another_team() {
    const { key_id: keyId, private_key: key } = await control("GET", `/apns/${OTHER_TEAM}/key`);
    const client = provider({ token: { key, keyId, teamId: TEAM } });
    await fails(client, "ae", 403, "InvalidProviderToken").finally(() => client.shutdown());
  },
  async expired_provider_token_is_renewed(client) {
    await control("PUT", "/providers/apns", { access_token_seconds: 1 });
    await sleep(2500);
    await passes(client, "af");
  },
  async certificate_in_the_place_of_a_token() {
    const made = await control("GET", `/apns/${TEAM}/certificate?bundle=${BUNDLE}`);
    const client = provider({ cert: made.certificate, key: made.private_key });
    await passes(client, "b0", { topic: undefined });
    await fails(client, "b1", 400, "TopicDisallowed", { topic: "com.example.other" }).finally(() => client.shutdown());
  },
  async one_stream_until_the_first_success(client) {
    const first = passes(client, "5100");
    while (!client.client.session?.remoteSettings?.maxConcurrentStreams) await sleep(10);
    assert.equal(client.client.session.remoteSettings.maxConcurrentStreams, 1);
    await first;
    await sleep(100);
    assert.equal(client.client.session.remoteSettings.maxConcurrentStreams, 1000);
    const many = Array.from({ length: 60 }, (_, index) => token(`b2${String(index).padStart(2, "0")}`));
    const { sent, failed } = await client.send(notification(), many);
    assert.deepEqual([sent.length, failed], [60, []]);
  },
  async goaway_says_why_and_the_client_comes_back(client) {
    await passes(client, "b3");
    const said = new Promise((done) => client.client.session.on("goaway", (_code, _last, words) => done(words)));
    await control("POST", "/apns/goaway", { reason: "Shutdown" });
    assert.equal(Buffer.from((await said) ?? []).toString(), '{"reason":"Shutdown"}');
    await sleep(100);
    await passes(client, "b4");
  },
};

// --- fixtures ---

/** Who signs in the recorded requests, where it is not the key of the team. */
const SENDERS = {
  key_of_another_team: "foreign_key",
  certificate_in_the_place_of_a_token: "certificate",
  expired_provider_token_is_renewed: "expired_then_good",
};

/** What was on the wire, without what differs from run to run: keys, times, ids that the sandbox made. */
function fixture(request) {
  const { method, path, headers, body, status, answer } = request;
  const kept = { method, path, headers, status, body: JSON.parse(body) };
  if (request.jwt) {
    const { header, claims } = request.jwt;
    kept.jwt = { header: { ...header, kid: "<key id>" }, claims: { ...claims, iat: "<time>" } };
  }
  const said = answer === "" ? null : JSON.parse(answer);
  kept.reason = said?.reason ?? null;
  kept.has_timestamp = typeof said?.timestamp === "number";
  kept.has_body = answer !== "";
  return kept;
}

async function run(name, test) {
  await control("PUT", "/rules", []);
  await control("PUT", "/providers/apns", {});
  const client = provider({ token: { key: key.private_key, keyId: key.key_id, teamId: TEAM } });
  await control("PUT", "/recording", { on: true });
  try {
    await test(client);
  } finally {
    client.shutdown();
    await control("PUT", "/recording", { on: false });
  }
  const { requests } = await control("GET", "/recording");
  assert.ok(requests.length > 0);
  for (const request of requests) assert.ok(request.answer_headers["apns-id"], "every answer has an apns-id");
  if (FIXTURES && name !== "one_stream_until_the_first_success") {
    const content = {
      client: `node-apn ${VERSION}`, case: name, sender: SENDERS[name] ?? "key", requests: requests.map(fixture),
    };
    fs.writeFileSync(path.join(FIXTURES, `${name}.json`), `${JSON.stringify(content, null, 2)}\n`);
  }
}

const ca = await control("GET", "/ca.pem");
const key = await control("GET", `/apns/${TEAM}/key?bundle=${BUNDLE}`);
let passed = 0;
let failed = 0;
for (const [name, test] of Object.entries(cases)) {
  try {
    await run(name, test);
    passed += 1;
  } catch (error) {
    failed += 1;
    console.error(`FAILED ${name}`, error);
  }
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);

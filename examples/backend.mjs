// A backend in Node (18 or later), with nothing but what comes with it: registers a phone, sends, reads what became of it.
//
//     ANYPUSH_URL=http://127.0.0.1:8470 ANYPUSH_API_KEY=apk_… node examples/backend.mjs PROVIDER TOKEN
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

const url = (process.env.ANYPUSH_URL ?? "http://127.0.0.1:8470").replace(/\/$/, "");
const tries = 5;

/** Calls the gateway. What may pass (no connection, 429, 5xx) is tried again; with a key a send is never doubled by it. */
async function call(method, path, body, idempotencyKey) {
  const headers = { authorization: `Bearer ${process.env.ANYPUSH_API_KEY}`, "content-type": "application/json" };
  if (idempotencyKey) headers["idempotency-key"] = idempotencyKey;
  for (let attempt = 1; ; attempt++) {
    let wait = attempt;
    try {
      const request = { method, headers, body: body && JSON.stringify(body), signal: AbortSignal.timeout(30_000) };
      const answer = await fetch(url + path, request);
      const text = await answer.text();
      if (answer.ok) return text ? JSON.parse(text) : null;
      if ((answer.status !== 429 && answer.status < 500) || attempt === tries) {
        const problem = JSON.parse(text || "{}");
        throw Object.assign(new Error(`${answer.status} ${problem.code}: ${problem.detail}`), { refused: true });
      }
      wait = Number(answer.headers.get("retry-after") ?? attempt);
    } catch (error) {
      if (error.refused) throw error;
      if (attempt === tries) throw new Error(`${url} does not answer: ${error.cause ?? error}`);
    }
    await sleep(wait * 1000);
  }
}

/** All of a list, page by page. */
async function* every(path) {
  for (let cursor = ""; cursor !== null; ) {
    const page = await call("GET", path + (cursor && `?cursor=${encodeURIComponent(cursor)}`));
    yield* page.data;
    cursor = page.next_cursor;
  }
}

async function main(provider, token) {
  // 1. What the app reported when somebody logged in. The id is yours; the same call again changes nothing.
  const device = { user_id: "u-42", tags: ["vip"], addresses: [{ provider, token }] };
  await call("PUT", "/v1/devices/example-phone", device);

  // 2. Send. The key belongs to the event that you tell of, so that a repeated job does not tell it twice.
  const order = randomUUID();
  const message = {
    to: { device_ids: ["example-phone"] },
    notification: { title: "Your order", body: "is on its way" },
    data: { order },
    collapse_key: `order-${order}`,
    ttl_seconds: 3600,
    label: "order-shipped",
  };
  const sent = await call("POST", "/v1/messages", message, `order-shipped-${order}`);
  console.log("accepted", sent.id);

  // 3. Read what became of it. (In a service, take a webhook instead of asking.)
  let now;
  while ((now = await call("GET", `/v1/messages/${sent.id}`)).state !== "done") await sleep(500);
  console.log("reached", JSON.stringify(now.counts.reached));
  for await (const delivery of every(`/v1/messages/${sent.id}/deliveries`)) {
    console.log(delivery.state, delivery.reason ?? "");
  }
}

const [provider, token] = process.argv.slice(2);
if (!token || !process.env.ANYPUSH_API_KEY) {
  console.error("usage: ANYPUSH_URL=… ANYPUSH_API_KEY=… node examples/backend.mjs PROVIDER TOKEN");
  process.exit(64);
}
main(provider, token).catch((error) => {
  console.error(error.message);
  process.exit(1);
});

// Everything that the page asks the gateway: the public API with the demo app's key, and the levers of the demo.

/** What the demo told the page at the start: url, api_key. */
export let config = null;

/** Reads the configuration; without it nothing works. */
export async function connect() {
  config = await answer(await fetch("/demo/config.json"));
  return config;
}

async function answer(response) {
  const text = await response.text();
  const body = text ? JSON.parse(text) : null;
  if (response.ok) return body;
  // Problem documents say in `detail` how to mend it.
  throw new Error(body?.detail ?? body?.title ?? `the gateway answered ${response.status}`);
}

async function call(method, path, body) {
  const headers = { authorization: `Bearer ${config.api_key}` };
  if (body !== undefined) headers["content-type"] = "application/json";
  return answer(await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) }));
}

/** The body of the one call. */
export function envelope(title, body) {
  const notification = body ? { title, body } : { title };
  return { to: { audience: { tag: config.tag } }, notification, class: "transactional", ttl_seconds: 600 };
}

/** Sends one message to all demo devices. */
export const send = (message) => call("POST", "/v1/messages", message);
/** The newest message, or nothing. */
export const newest = async () => (await call("GET", "/v1/messages?limit=1")).data[0] ?? null;
/** One message with its counts. */
export const message = (id) => call("GET", `/v1/messages/${id}`);
/** Its deliveries, one for each demo device. */
export const deliveries = async (id) => (await call("GET", `/v1/messages/${id}/deliveries`)).data;
/** One delivery with its trail. */
export const delivery = (message, id) => call("GET", `/v1/messages/${message}/deliveries/${id}`);
/** The phones and vendors of the demo. */
export const world = async () => answer(await fetch("/demo/world.json"));

const lever = async (path, body, method = "PUT") => answer(await fetch(path, {
  method,
  headers: { "content-type": "application/json" },
  body: JSON.stringify(body),
}));

/** Makes a vendor work, break or refuse. */
export const setVendor = (provider, mode) => lever(`/demo/vendors/${provider}`, { mode });
/** Takes a phone offline or online, kills or revives its token. */
export const setPhone = (id, change) => lever(`/demo/phones/${encodeURIComponent(id)}`, change);

/** Taps a notification: the phone tells the gateway. */
export const tap = (id, message_id) => lever(`/demo/phones/${encodeURIComponent(id)}/tap`, { message_id }, "POST");

/** Makes an element. Text goes in as text nodes only: nothing that a message says can become markup. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (typeof value === "boolean") node.toggleAttribute(name, value);
    else if (value !== undefined && value !== null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

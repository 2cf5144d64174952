// What a newcomer does on the demo page, in a real browser: send, look, break the vendor, send again.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [demoFile, shots] = process.argv.slice(2);
const demo = JSON.parse(readFileSync(demoFile, "utf8"));
const flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];

const context = await chromium.launchPersistentContext(mkdtempSync(join(tmpdir(), "anypush-page-")), {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  args: flags,
  viewport: { width: 1600, height: 1150 },
});
const page = context.pages()[0] ?? await context.newPage();
const complaints = [];
// A failed lever or a refused script shows here: the page itself must stay silent.
page.on("console", (line) => line.type() === "error" && complaints.push(`${line.text()}: ${line.location().url}`));
page.on("pageerror", (error) => complaints.push(error.message));

let passed = 0;
async function step(name, work) {
  const began = Date.now();
  try {
    await work();
  } catch (error) {
    await shoot("failed");
    console.error(`not ok: ${name}\n${error.stack}`);
    await context.close();
    process.exit(1);
  }
  passed += 1;
  console.log(`ok: ${name} (${Date.now() - began} ms)`);
}

async function shoot(name) {
  // What arrives slides in: a picture of half of it tells nothing.
  await page.waitForTimeout(600);
  await page.screenshot({ path: join(shots, `${name}.png`), fullPage: true });
}

const outcome = (device) => page.locator(`[data-phone="${device}"]`).getAttribute("data-state");
const until = (what, check, seconds = 20) => waitFor(what, check, Date.now() + seconds * 1000);

async function waitFor(what, check, deadline) {
  for (;;) {
    const seen = await check();
    if (seen) return seen;
    if (Date.now() > deadline) throw new Error(`waited in vain until ${what}`);
    await page.waitForTimeout(100);
  }
}

async function counts() {
  const text = await page.locator(".sum").textContent();
  const [terms, total] = text.split(" = ");
  const now = Object.fromEntries(terms.split(" + ").map((term) => term.split(" ").reverse()).map(([k, n]) => [k, Number(n)]));
  return { now, sum: Object.values(now).reduce((a, b) => a + b, 0), targeted: Number(total.split(" ")[0]) };
}

async function send(title) {
  const before = await page.locator("#counts").getAttribute("data-message");
  await page.fill("#title", title);
  await page.click("#send");
  await until("the new message is shown", async () =>
    (await page.locator("#counts").getAttribute("data-message")) !== before);
}

const done = async () => (await page.locator("#counts").getAttribute("data-done")) === "true";
const lever = (provider, mode) => page.click(`[data-lever="${provider}-${mode}"]`);
const vendors = [...new Set(demo.devices.map((device) => device.provider))].filter((p) => p !== "direct");
const direct = demo.devices.filter((device) => device.provider === "direct").map((device) => device.id);
const lit = async () => {
  const states = await Promise.all(demo.devices.map((device) => outcome(device.id)));
  return states.filter((state) => ["accepted", "delivered", "displayed", "clicked"].includes(state)).length;
};

await step("the page shows every phone of demo.json", async () => {
  await page.goto(`${demo.url}/demo`);
  await until("all phones are drawn", async () => (await page.locator(".phone").count()) === demo.devices.length);
  await until("the gateway answers", async () => (await page.locator("#health").getAttribute("data-ok")) === "true");
  await until("phones are connected", async () =>
    (await page.locator('.phone[data-online="false"]').count()) === 0);
  await shoot("1-ready");
});

await step("one message lights up every phone that can light up, and the counts add up", async () => {
  await send("First light");
  await until("the message is done", done);
  const { now, sum, targeted } = await counts();
  assert.equal(targeted, demo.devices.length);
  assert.equal(sum, targeted);
  assert.equal(await page.locator("#sum").getAttribute("data-ok"), "true");
  assert.ok((now.failed ?? 0) >= 1, "the dead tokens must show");
  // Some vendors say later that a phone is gone: the counts move on after the message is done.
  const reached = async () => {
    const { now } = await counts();
    return targeted - (now.failed ?? 0) - (now.suppressed ?? 0);
  };
  await until("phones are lit", async () => (await lit()) === (await reached()));
  for (const id of direct) assert.equal(await outcome(id), "delivered", id);
  const shown = page.locator(".note b", { hasText: "First light" });
  await until("notifications are on the screens", async () => (await shown.count()) === (await reached()));
  await shoot("2-sent");
});

await step("a delivery tells its story", async () => {
  const dead = page.locator('.phone[data-state="failed"] .outcome').first();
  await dead.click();
  await until("the story is told", async () => (await page.locator(".trail li").count()) >= 3);
  const story = await page.locator("#story").textContent();
  assert.match(story, /invalid token/);
  await shoot("3-story");
});

await step("with the vendor down, direct phones get it at once and the others wait", async () => {
  for (const vendor of vendors) await lever(vendor, "down");
  for (const vendor of vendors) {
    await until("the lever moved", async () =>
      (await page.getAttribute(`[data-lever="${vendor}-down"]`, "aria-pressed")) === "true");
  }
  await send("The vendor is down");
  await until("direct phones have it", async () =>
    (await Promise.all(direct.map(outcome))).every((state) => state === "delivered"));
  const { now, sum, targeted } = await counts();
  assert.equal(sum, targeted);
  assert.ok(now.pending > 0, "what the vendor refuses must be pending");
  await shoot("4-vendor-down");
});

await step("when the vendor is back, what waited arrives", async () => {
  for (const vendor of vendors) await lever(vendor, "ok");
  await until("nothing is pending", done, 90);
  const { sum, targeted } = await counts();
  assert.equal(sum, targeted);
  await shoot("5-vendor-back");
});

await step("a channel whose credentials are refused says so, and opens again when they are taken", async () => {
  for (const vendor of vendors) await lever(vendor, "refused");
  await send("Our keys are refused");
  const tags = page.locator(".vendor h3 .tag");
  await until("the channel says so", async () => (await tags.first().textContent()) === "channel auth failed", 40);
  await shoot("6-refused");
  for (const vendor of vendors) await lever(vendor, "ok");
  await until("the channel is open again", async () => (await tags.first().textContent()) === "channel ok");
  await until("nothing is pending", done, 90);
});

await step("an offline phone gets its message when it comes back", async () => {
  const phone = page.locator(`[data-phone="${direct[0]}"]`);
  await phone.getByRole("button", { name: "Take it offline" }).click();
  await until("it is offline", async () => (await phone.getAttribute("data-online")) === "false");
  await send("While you were away");
  await until("its message waits in the inbox", async () => (await outcome(direct[0])) === "accepted");
  await shoot("7-offline");
  await phone.getByRole("button", { name: "Bring it online" }).click();
  await until("it has the message", async () => (await outcome(direct[0])) === "delivered");
});

await step("it is readable in the dark and on a small screen", async () => {
  await page.emulateMedia({ colorScheme: "dark" });
  await shoot("8-dark");
  await page.setViewportSize({ width: 400, height: 850 });
  const wider = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  assert.ok(wider <= 0, `the page is ${wider} px wider than the screen`);
  await shoot("9-small");
});

await step("the browser had nothing to complain about", async () => assert.deepEqual(complaints, []));

await context.close();
console.log(`${passed} passed, 0 failed`);

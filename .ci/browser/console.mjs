// Looks at a node's console in Debian's Chromium as an operator would: on a desk, in the dark, on a phone, by keyboard.
//
// Usage: node console.mjs PLAN, where PLAN is JSON:
//   {page, chromium, self, peer, channel, shots}
// page is the console's address, self the node that serves it, peer a node that media flows to, channel one that is watched
// at self or peer, shots a prefix for screenshots ("": none).
//
// Prints one line of JSON with what was seen; exit status 1 with the reason on standard error.
import { chromium } from "playwright-core";

const plan = JSON.parse(process.argv[2]);
const browser = await chromium.launch({
  executablePath: plan.chromium, headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update"],
});
const faults = [];
const own = new URL(plan.page).origin;

async function open(options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const seen = { bytes: 0, foreign: [] };
  page.on("pageerror", (e) => faults.push(`error: ${e.message}`));
  page.on("console", (m) => m.type() === "error" && faults.push(`console: ${m.text()}`));
  page.on("request", (r) => { if (!r.url().startsWith(own) && !r.url().startsWith("data:")) seen.foreign.push(r.url()); });
  page.on("response", async (r) => { try { seen.bytes += (await r.body()).length; } catch { /* gone already */ } });
  await page.goto(plan.page);
  await page.waitForSelector("svg .node");
  return { page, seen };
}

const shot = (page, name) => plan.shots ? page.screenshot({ path: `${plan.shots}${name}.png`, fullPage: true }) : undefined;
const overflow = (page) => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);

const { page, seen } = await open({ viewport: { width: 1280, height: 1000 }, colorScheme: "light" });
const out = {
  paint: await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? -1),
  shown: await page.evaluate(() => performance.now()),
  nodes: await page.locator("svg .node").count(),
  verdict: await page.locator(".verdict").innerText(),
};

// By keyboard alone: to the peer's node, and choose it; in a large mesh, to the list of nodes, and name it.
let steps = 0;
for (; steps < 60; steps++) {
  await page.keyboard.press("Tab");
  if (await page.evaluate(() => document.activeElement?.tagName === "SELECT")) {
    await page.keyboard.type(plan.peer);
    break;
  }
  const label = await page.evaluate(() => document.activeElement?.getAttribute("aria-label") ?? "");
  if (label.startsWith(`${plan.peer} in`)) break;
}
await page.keyboard.press("Enter");
await page.waitForSelector("polyline.path");
out.tabs = steps + 1;
out.paths = await page.locator("polyline.path").count();
out.rows = await page.locator("section.card tbody tr").count();
await page.waitForTimeout(500);
await shot(page, "map-light");

await page.click("nav a[href='#channels']");
await page.waitForSelector(`details.channel >> text=${plan.channel}`);
await page.fill("input[type=search]", plan.channel);
await page.waitForTimeout(600);
await page.locator("details.channel summary").first().click();
out.channel = await page.locator("details.channel").first().innerText();
await shot(page, "channels-light");

await page.click("nav a[href='#hour']");
await page.waitForSelector("figure.chart canvas", { timeout: 40_000 });
out.charts = await page.locator("figure.chart").count();
await shot(page, "hour-light");
await page.click("nav a[href='#nodes']");
await page.waitForSelector(`button.plain >> text=${plan.peer}`);
out.foreign = seen.foreign;
out.bytes = seen.bytes; // of all views and every poll until here

const dark = await open({ viewport: { width: 1280, height: 1000 }, colorScheme: "dark" });
await dark.page.locator(`svg .node[aria-label^="${plan.peer} in"]`).click();
await dark.page.waitForSelector("polyline.path");
await shot(dark.page, "map-dark");

const phone = await open({ viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2, colorScheme: "light" });
await phone.page.locator(`svg .node[aria-label^="${plan.peer} in"]`).tap();
await phone.page.waitForSelector("polyline.path");
out.phoneOverflow = await overflow(phone.page);
await shot(phone.page, "phone");

out.faults = faults;
console.log(JSON.stringify(out));
await browser.close();

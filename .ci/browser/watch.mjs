// Drives the demo's page in Debian's Chromium, as a person would: publishes the fake camera at one city, watches at
// another in a second page, presses buttons, and says what getStats counted.
//
// Usage: node watch.mjs PLAN, where PLAN is JSON:
//   {page, chromium, profile, publish, watch, screenshot,
//    phases: [{name, settle, seconds, press: [{at, id}], publisher, viewer}]}
// page is the demo's address, profile an empty directory, publish a city ("": somebody else sends to the channel
// "camera"), watch a city, screenshot a file ("": none). A phase lets `settle` seconds pass, then samples once a second;
// press names buttons of the page by id, `at` in seconds from the phase's first sample. publisher and viewer, if given, are
// what the two pages must come to say of themselves before the first sample.
//
// Prints one line of JSON per phase: {name, samples: [...]}. Exit status 1 with the reason on standard error.
import { chromium } from "playwright-core";

const plan = JSON.parse(process.argv[2]);
const joinTimeout = 20_000; // of a join by the page's own buttons, milliseconds
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const context = await chromium.launchPersistentContext(plan.profile, {
  executablePath: plan.chromium,
  headless: true,
  viewport: { width: 1280, height: 1150 },
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--use-fake-device-for-media-stream=fps=20", "--use-fake-ui-for-media-stream",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
  ],
});
// The page keeps its connections to itself; the test reads them from outside.
await context.addInitScript(() => {
  const Real = window.RTCPeerConnection;
  window.connections = [];
  window.RTCPeerConnection = class extends Real {
    constructor(...args) {
      super(...args);
      window.connections.push(this);
    }
  };
});

async function open() {
  const page = await context.newPage();
  page.on("pageerror", (e) => console.error(`page: ${e.message}`));
  await page.goto(plan.page);
  await page.waitForFunction(() => document.getElementById("publish-city").options.length > 0);
  return page;
}

// join presses a button until its note says that it worked: a stream takes a moment to be known at other nodes.
async function join(page, button, note, done) {
  const deadline = Date.now() + joinTimeout;
  for (;;) {
    await page.click(button);
    await page.waitForFunction((b) => !document.querySelector(b).disabled, button);
    const said = await page.textContent(note);
    if (said.startsWith(done)) return;
    if (Date.now() > deadline) throw new Error(`${button}: the page says: ${said}`);
    await sleep(300);
  }
}

// sample reads what the viewer's connection received and decoded: the last one that plays, after a move.
function sample(page) {
  return page.evaluate(async () => {
    const out = {};
    const playing = window.connections.findLast((c) => c.connectionState === "connected") ?? window.connections.at(-1);
    for (const s of (await playing.getStats()).values()) {
      if (s.type !== "inbound-rtp") continue;
      if (s.kind === "audio") {
        out.audioPackets = s.packetsReceived;
        out.audioConcealed = s.concealedSamples;
        continue;
      }
      Object.assign(out, {
        framesDecoded: s.framesDecoded, keyFramesDecoded: s.keyFramesDecoded, freezeCount: s.freezeCount,
        totalFreezesDuration: s.totalFreezesDuration, packetsReceived: s.packetsReceived, packetsLost: s.packetsLost,
        pliCount: s.pliCount, nackCount: s.nackCount, width: s.frameWidth, height: s.frameHeight,
      });
    }
    return out;
  });
}

// says waits until a page's note ends with a text.
function says(page, note, text) {
  return text && page.waitForFunction(([n, t]) => document.querySelector(n).textContent.endsWith(t), [note, text], { timeout: joinTimeout });
}

async function run(page, publisher, phase) {
  await sleep(phase.settle * 1000);
  await says(publisher, "#publish-note", phase.publisher);
  await says(page, "#watch-note", phase.viewer);
  const samples = [];
  const start = Date.now();
  const left = [...(phase.press ?? [])];
  for (let second = 0; second <= phase.seconds; second++) {
    await sleep(start + second * 1000 - Date.now());
    samples.push({ at: (Date.now() - start) / 1000, ...(await sample(page)) });
    while (left.length && left[0].at <= second) {
      const { id } = left.shift();
      await page.click(`#${id}`);
      await page.waitForFunction((b) => !document.getElementById(b).disabled, id);
      const said = await page.textContent("#break-note");
      if (said) throw new Error(`#${id}: the page says: ${said}`);
    }
  }
  console.log(JSON.stringify({ name: phase.name, samples }));
}

async function main() {
  let publisher = null;
  if (plan.publish) {
    publisher = await open();
    await publisher.selectOption("#publish-city", plan.publish);
    await join(publisher, "#camera", "#publish-note", "The camera enters");
  }
  const viewer = await open();
  await viewer.selectOption("#watch-city", plan.watch);
  await viewer.check("input[value=camera]");
  await join(viewer, "#watch", "#watch-note", "Watching at");
  for (const phase of plan.phases) await run(viewer, publisher, phase);
  if (plan.screenshot) await viewer.screenshot({ path: plan.screenshot, fullPage: true });
}

let status = 0;
try {
  await main();
} catch (e) {
  console.error(e.message);
  status = 1;
}
await context.close().catch(() => {});
process.exit(status);

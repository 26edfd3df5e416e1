// The page: reads /api/state once a second, draws it, and sends what the buttons say to /api/action.
import { ground, drawRoutes, drawCities, sample } from "./map.js";
import { publish, watch, figures } from "./webrtc.js";

const $ = (id) => document.getElementById(id);
const layers = ground($("map"));
let state = null; // newest answer of /api/state
let session = null; // app and token
let ready = null; // promise of the first state and session
let endCamera = null, viewer = null; // what ends the camera; the call that watches
const place = new Map(); // path as text -> its index, so that a path keeps its style while it lives

const names = () => new Map((state?.cities ?? []).map((c) => [c.node, c]));
const chosen = () => document.querySelector("input[name=channel]:checked").value;

async function api(path, body) {
  const r = await fetch(path, body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  const answer = await r.json();
  if (!r.ok) throw new Error(answer.error ?? `status ${r.status}`);
  return answer;
}

function say(id, text, bad = false) {
  $(id).textContent = text;
  $(id).classList.toggle("bad", bad);
}

// press runs a button's action, with the button off meanwhile and errors beside it.
function press(id, note, action) {
  $(id).addEventListener("click", async () => {
    $(id).disabled = true;
    try {
      await ready; // a page that has just come knows no city
      await action();
    } catch (e) {
      say(note, e.message, true);
    }
    $(id).disabled = false;
    refresh();
  });
}

// flow is the traffic to show: the watched city's if it has any, else the first.
function flow() {
  const to = viewer?.city ?? $("watch-city").value;
  return state.flows.find((f) => f.to === to) ?? state.flows[0];
}

// indexed gives each path its colour and pattern. A path keeps them while it carries media; one that left gives way.
function indexed(paths) {
  const live = paths.filter((p) => p.active);
  const key = (p) => p.hops.join(">");
  const carrying = new Set(live.map(key));
  for (const k of place.keys()) if (!carrying.has(k)) place.delete(k);
  const taken = new Set(live.map((p) => place.get(key(p))));
  for (const p of live) {
    if (place.has(key(p))) continue;
    let free = 0;
    while (taken.has(free)) free++;
    place.set(key(p), free);
    taken.add(free);
  }
  // Those in use first, in the order of their styles; then those that left.
  return paths.map((p) => ({ ...p, index: place.get(key(p)) ?? 0 })).sort((a, b) => b.active - a.active || a.index - b.index);
}

const number = (n) => n.toLocaleString("en");
const ms = (n) => `${n.toFixed(n < 10 ? 1 : 0)} ms`;

function row(p, cities) {
  const tr = document.createElement("tr");
  const cell = (text, cls) => {
    const td = tr.insertCell();
    td.textContent = text;
    if (cls) td.className = cls;
    return td;
  };
  const via = p.hops.slice(1, -1).map((h) => cities.get(h)?.city ?? h);
  const what = via.length ? `via ${via.join(", ")}` : "direct";
  cell(what + (!p.active ? " (left)" : p.alive ? "" : " (no answer)")).prepend(p.active ? sample(p.index) : "");
  cell(p.active && p.alive ? ms(p.delay_ms) : "–");
  cell(p.active ? `${p.loss_percent.toFixed(1)} %` : "–", p.active && p.loss_percent >= 2 ? "warn" : "");
  cell(number(p.first));
  cell(number(p.rescued));
  tr.className = p.active ? "" : "old";
  return tr;
}

function drawFlow() {
  const cities = names();
  const f = flow();
  const paths = indexed(f?.paths ?? []);
  drawRoutes(layers.routes, paths.filter((p) => p.active), cities);
  drawCities(layers.cities, cities, f);
  $("flow").textContent = f
    ? `${cities.get(f.from)?.city} to ${cities.get(f.to)?.city}; loss of the last seconds, copies since the path began`
    : "No stream crosses the mesh.";
  $("paths").replaceChildren(...paths.map((p) => row(p, cities)));
  for (const key of ["delivered", "undelivered", "duplicates", "repaired"]) {
    $(`t-${key}`).textContent = f ? number(f[key]) : "–";
  }
  $("t-undelivered").classList.toggle("warn", (f?.undelivered ?? 0) > 0);
}

function toggled(id, on, onText, offText) {
  $(id).setAttribute("aria-pressed", String(on));
  $(id).textContent = on ? onText : offText;
}

function drawControls() {
  for (const id of ["publish-city", "watch-city"]) {
    const select = $(id);
    if (select.options.length === 0) {
      for (const c of state.cities) select.add(new Option(c.city, c.node));
      select.value = id === "publish-city" ? state.suggest.publish : state.suggest.watch;
    }
    for (const o of select.options) {
      const c = names().get(o.value);
      o.textContent = c.city + (c.alive ? "" : " (dead)");
    }
  }
  toggled("test", state.test_city !== "", "Stop the test stream", "Start the test stream");
  toggled("camera", endCamera !== null, "Stop the camera", "Publish the camera");
  toggled("watch", viewer !== null, "Stop watching", "Watch there");
  toggled("lose", state.lossy, "Stop losing 5 %", "Lose 5 % on every path");
  $("kill-relay").disabled = $("kill-direct").disabled = state.flows.length === 0;
}

function drawEvents() {
  const items = state.events.toReversed().map((e) => {
    const li = document.createElement("li");
    const time = document.createElement("time");
    time.dateTime = e.at;
    time.textContent = new Date(e.at).toLocaleTimeString("en-GB");
    li.append(time, e.text);
    return li;
  });
  if ($("events").children.length !== items.length || $("events").dataset.last !== state.events.at(-1)?.at) {
    $("events").dataset.last = state.events.at(-1)?.at ?? "";
    $("events").replaceChildren(...items);
  }
}

async function refresh() {
  try {
    state = await api("api/state");
    $("link").textContent = `${state.cities.filter((c) => c.alive).length} of ${state.cities.length} nodes alive`;
    drawControls();
    drawFlow();
    drawEvents();
  } catch (e) {
    $("link").textContent = "the demo has ended";
  }
  if (viewer) {
    const s = await figures(viewer.pc).catch(() => ({}));
    $("s-fps").textContent = s.fps ?? "–";
    $("s-freezes").textContent = s.freezes ?? "–";
    $("s-frozen").textContent = s.frozen === undefined ? "–" : `${s.frozen.toFixed(1)} s`;
    $("s-jitter").textContent = s.jitter === undefined ? "–" : ms(s.jitter);
    $("s-lost").textContent = s.lost ?? "–";
  }
}

const base = (node) => names().get(node).access_url;
const cityAt = (url) => [...names().values()].find((c) => url.startsWith(`${c.access_url}/`));

async function stopWatching() {
  const old = viewer;
  viewer = null;
  $("video").srcObject = null;
  $("idle").hidden = false;
  $("video").controls = false;
  await old?.end();
}

press("test", "publish-note", async () => {
  await api("api/action", { do: state.test_city ? "test_stop" : "test_start", city: $("publish-city").value });
});

press("camera", "publish-note", async () => {
  if (endCamera) {
    const end = endCamera;
    endCamera = null;
    return end();
  }
  const city = $("publish-city").value;
  const media = await navigator.mediaDevices.getUserMedia({ audio: true, video: { width: 640, height: 360 } });
  const stop = () => media.getTracks().forEach((t) => t.stop());
  try {
    const call = await publish(`${base(city)}/whip/${session.app}/camera`, session.token, media, () => {
      say("publish-note", "The node is gone; the camera is off.", true);
      endCamera = null;
      stop();
    }, (to) => say("publish-note", `The camera enters at ${cityAt(to)?.city}, as its node asked.`));
    endCamera = async () => { stop(); await call.end(); };
  } catch (e) {
    stop();
    throw e;
  }
  document.querySelector("input[value=camera]").checked = true;
  say("publish-note", `The camera enters at ${names().get(city).city}.`);
});

async function startWatching() {
  const city = $("watch-city").value;
  viewer = await watch(`${base(city)}/whep/${session.app}/${chosen()}`, session.token, $("video"), () => {
    say("watch-note", "The node is gone; choose another city.", true);
    stopWatching();
  }, (to) => {
    viewer.city = $("watch-city").value = cityAt(to)?.node;
    say("watch-note", `Watching at ${cityAt(to)?.city}, as its node asked.`);
  });
  viewer.city = city;
  $("idle").hidden = true;
  $("video").controls = true;
  say("watch-note", `Watching at ${names().get(city).city}.`);
}

press("watch", "watch-note", async () => {
  if (viewer) {
    await stopWatching();
    say("watch-note", "Stopped.");
  } else {
    await startWatching();
  }
});

// Another city or channel while watching: move there.
for (const e of [$("watch-city"), ...document.querySelectorAll("input[name=channel]")]) {
  e.addEventListener("change", async () => {
    if (!viewer) return;
    await stopWatching();
    await startWatching().catch((err) => say("watch-note", err.message, true));
    refresh();
  });
}

for (const [id, what] of [["kill-relay", "kill_relay"], ["kill-direct", "kill_direct"], ["heal", "heal"]]) {
  press(id, "break-note", async () => {
    const f = flow();
    await api("api/action", { do: what, from: f?.from, to: f?.to });
    say("break-note", "");
  });
}
press("lose", "break-note", () => api("api/action", { do: state.lossy ? "stop_losing" : "lose" }));

ready = api("api/session").then((s) => { session = s; return refresh(); });
await ready;
setInterval(refresh, 1000);

// The map: equirectangular, drawn by hand and coarse on purpose. x is longitude, y is minus latitude.

const svgns = "http://www.w3.org/2000/svg";

// Coastlines as longitude, latitude pairs, a few dozen points each.
const lands = [
  [-166,66,-156,71,-128,70,-110,68,-95,68,-93,60,-84,56,-79,52,-79,58,-76,62,-65,58,-56,52,-66,49,-60,46,-70,43,-74,40,-76,35,-81,31,-80,26,-82,29,-90,30,-97,27,-97,21,-91,19,-88,21,-88,16,-83,15,-82,9,-79,9,-83,8,-92,14,-105,20,-110,24,-114,30,-117,33,-122,37,-124,47,-131,54,-141,60,-152,59,-160,55,-163,60],
  [-79,8,-72,12,-62,10,-52,5,-50,0,-44,-2,-35,-6,-37,-12,-39,-17,-42,-23,-48,-26,-53,-34,-57,-35,-58,-38,-62,-40,-66,-45,-69,-51,-72,-54,-75,-48,-73,-40,-71,-30,-70,-18,-77,-12,-81,-5,-80,0],
  [-10,37,-9,43,-1,44,-4,48,2,51,8,54,8,57,11,57,12,54,20,55,24,59,30,60,21,61,25,65,18,62,16,56,11,59,5,60,12,66,20,70,30,70,41,67,44,68,68,69,73,72,100,76,113,73,140,73,170,69,179,68,179,65,163,58,156,52,157,58,163,61,142,59,135,54,141,52,135,43,129,41,127,35,125,38,118,39,122,37,119,35,121,29,115,22,108,21,109,12,105,9,101,13,100,8,104,1,98,10,98,16,91,22,86,20,80,15,80,8,77,8,73,18,70,22,66,25,57,26,51,28,48,30,51,24,56,26,60,22,52,16,44,13,39,21,35,28,34,31,36,36,28,37,27,40,36,41,41,42,38,47,31,46,28,42,23,40,23,37,20,40,13,46,18,40,15,38,9,44,3,43,0,39,-5,36],
  [-6,35,10,37,11,33,20,31,30,31,33,28,37,21,43,12,51,12,47,4,40,-4,40,-15,35,-20,35,-25,31,-30,26,-34,19,-34,15,-27,12,-17,14,-10,9,-1,9,4,4,6,-7,4,-13,8,-17,14,-16,21,-13,28],
  [114,-22,122,-17,130,-12,136,-12,136,-16,140,-17,142,-11,146,-19,153,-26,153,-31,150,-37,145,-39,138,-34,131,-31,124,-33,116,-35,114,-28],
  [-54,83,-25,82,-20,74,-24,69,-40,65,-44,60,-52,65,-55,70,-68,76],
  [-5,50,1,51,1,53,-3,58,-5,58,-3,54],[-10,52,-6,52,-6,55,-9,54],[-24,65,-14,65,-18,63],
  [130,31,136,34,140,35,142,40,145,44,141,45,140,40,137,37,131,34],
  [95,5,104,-3,105,-6,98,1],[106,-6,115,-8,108,-8],[109,1,117,6,118,1,115,-4,110,-3],[120,0,125,1,121,-3,120,-5],
  [131,-1,141,-3,150,-10,138,-8],[120,17,124,12,126,7,122,8,121,13],[44,-25,50,-16,47,-15,44,-20],
  [167,-46,173,-41,178,-38,174,-36,172,-44],[-84,22,-75,20,-78,22],[80,9,82,7,80,6],[144,-41,148,-41,146,-43],
];

// Where a city's label stands, so that none runs over a neighbour or the edge: beside its dot, or above it.
const sides = { ashburn: "end", "sao-paulo": "end", frankfurt: "middle", singapore: "end", tokyo: "middle", sydney: "end" };

function make(name, attributes, parent, text) {
  const e = document.createElementNS(svgns, name);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  if (text !== undefined) e.textContent = text;
  parent?.append(e);
  return e;
}

// ground draws what never changes and returns the layers for routes and cities.
export function ground(svg) {
  let lines = "";
  for (let lon = -180; lon <= 180; lon += 30) lines += `M${lon} -78V60`;
  for (let lat = -30; lat <= 60; lat += 30) lines += `M-180 ${-lat}H180`;
  make("path", { class: "graticule", d: lines }, svg);
  for (const points of lands) {
    let d = "M";
    for (let i = 0; i < points.length; i += 2) d += `${points[i]} ${-points[i + 1]} `;
    make("path", { class: "land", d: d + "Z" }, svg);
  }
  return { routes: make("g", {}, svg), cities: make("g", {}, svg) };
}

// hop is one link as a curve; the short way round the Earth, so it may leave the map on one side and enter on the other.
function hop(a, b, bend) {
  let dx = b.lon - a.lon;
  if (dx > 180) dx -= 360;
  if (dx < -180) dx += 360;
  const dy = a.lat - b.lat;
  const length = Math.hypot(dx, dy) || 1;
  const lift = bend * Math.min(22, length / 5);
  const cx = dx / 2 + (dy / length) * lift, cy = dy / 2 - (dx / length) * lift;
  return [0, dx > 0 ? -360 : 360].map((shift) => `M${a.lon + shift} ${-a.lat}q${cx} ${cy} ${dx} ${dy}`).join("");
}

// drawRoutes draws one line per path; index chooses colour and pattern.
export function drawRoutes(layer, paths, cities) {
  layer.replaceChildren();
  for (const p of [...paths].reverse()) { // the first path ends up on top
    const stops = p.hops.map((h) => cities.get(h)).filter(Boolean);
    const d = stops.slice(1).map((stop, i) => hop(stops[i], stop, [1, 1.6, 0.5][p.index % 3])).join("");
    if (d) make("path", { class: `route c${p.index % 3}${p.alive ? "" : " gone"}`, d }, layer);
  }
}

// drawCities draws dots and names; the shape of the mark and a word say what the colour says.
export function drawCities(layer, cities, flow) {
  layer.replaceChildren();
  for (const c of cities.values()) {
    const role = !c.alive ? "dead" : c.node === flow?.from ? "in" : c.node === flow?.to ? "out" : "";
    const g = make("g", { class: `city ${role}` }, layer);
    make("circle", { cx: c.lon, cy: -c.lat, r: role === "in" || role === "out" ? 3.4 : 2.6 }, g);
    if (role === "dead") make("path", { d: `M${c.lon - 2.4} ${-c.lat - 2.4}l4.8 4.8m0-4.8l-4.8 4.8`, stroke: "var(--bad)", "stroke-width": 1.2 }, g);
    const side = sides[c.node] ?? "start";
    const word = { dead: " (dead)", in: " (in)", out: " (out)" }[role] ?? "";
    const dx = { start: 5, end: -5, middle: 0 }[side], dy = side === "middle" ? -6 : 2.5;
    make("text", { x: c.lon + dx, y: -c.lat + dy, "text-anchor": side }, g, c.city + word);
  }
}

// sample is a short line in a path's style, for the table.
export function sample(index) {
  const svg = make("svg", { viewBox: "0 0 40 8", "aria-hidden": "true" });
  make("line", { class: `c${index % 3}`, x1: 2, y1: 4, x2: 38, y2: 4 }, svg);
  return svg;
}

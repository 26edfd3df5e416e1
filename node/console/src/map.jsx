// The map: nodes as far apart as packets take between them (d3-force over measured latencies), and the paths in use from the
// node that serves this page to a chosen one.
import { forceLink, forceManyBody, forceSimulation, forceX, forceY } from "d3-force";
import { useMemo, useRef } from "preact/hooks";
import { number } from "./api.js";

const size = { width: 900, height: 520, margin: 44 };

// layout places members once for each set of names; a node that comes or goes moves the others as little as it can.
function layout(members, links, old) {
  const nodes = members.map((m) => ({ id: m.node, ...(old.get(m.node) || {}) }));
  const edges = links.map((l) => ({ source: l.a, target: l.b, ms: Math.max(l.ms, 1) }));
  const longest = Math.max(1, ...edges.map((e) => e.ms));
  forceSimulation(nodes)
    .force("link", forceLink(edges).distance((e) => 40 + (360 * e.ms) / longest).strength(0.5))
    .force("charge", forceManyBody().strength(-160).distanceMax(400))
    .force("x", forceX().strength(0.02))
    .force("y", forceY().strength(0.05))
    .stop()
    .tick(nodes.length > 60 ? 120 : 300);
  const xs = nodes.map((n) => n.x), ys = nodes.map((n) => n.y);
  const [left, top] = [Math.min(...xs), Math.min(...ys)];
  const wide = Math.max(...xs) - left || 1, high = Math.max(...ys) - top || 1;
  const places = new Map();
  for (const n of nodes) {
    places.set(n.id, {
      x: nodes.length === 1 ? size.width / 2 : size.margin + ((n.x - left) / wide) * (size.width - 2 * size.margin),
      y: nodes.length === 1 ? size.height / 2 : size.margin + ((n.y - top) / high) * (size.height - 2 * size.margin),
    });
  }
  return places;
}

export function Map_({ state, peer, choose }) {
  const old = useRef(new Map());
  const names = state.members.map((m) => m.node).join();
  const places = useMemo(() => (old.current = layout(state.members, state.links, old.current)), [names]);
  const chosen = state.braids.filter((b) => b.peer === peer);
  const dense = state.members.length > 60;
  const named = new Set([state.node, peer, ...chosen.flatMap((b) => b.out.filter((p) => p.active).flatMap((p) => p.hops))]);
  const known = new Set(state.braids.map((b) => b.peer));
  const order = [...state.members].sort((a, b) => dense * (named.has(a.node) - named.has(b.node))); // named ones lie above the others
  return (
    <figure class={dense ? "map dense" : "map"}>
      {dense && (
        <label class="search">Paths to <select value={peer} onChange={(e) => choose(e.currentTarget.value || peer)}>
          <option value="">choose a node</option>
          {[...state.members].filter((m) => m.node !== state.node).sort((a, b) => known.has(b.node) - known.has(a.node)).map((m) => (
            <option key={m.node} value={m.node}>{m.node} in {m.region}{known.has(m.node) ? ", media flows" : ""}</option>
          ))}
        </select></label>
      )}
      <svg viewBox={`0 0 ${size.width} ${size.height}`} role="group" aria-label={`${state.members.length} nodes and the links between them`}>
        {state.links.map((l) => <Link key={`${l.a}-${l.b}`} link={l} a={places.get(state.members[l.a]?.node)} b={places.get(state.members[l.b]?.node)} />)}
        {chosen.flatMap((b) => b.out.filter((p) => p.active).map((p, i) => <Path key={`${b.fence}${p.id}`} path={p} places={places} order={i} />))}
        {order.map((m) => (
          <Node key={m.node} member={m} at={places.get(m.node)} self={m.node === state.node} chosen={m.node === peer} label={!dense || named.has(m.node)} stop={!dense} choose={choose} />
        ))}
      </svg>
      <figcaption>
        Distance is delay. {chosen.length > 0
          ? <>Drawn strong: the paths that {state.node} sends to <b>{peer}</b> on now.</>
          : <>Choose a node to see the paths to it{state.braids.length === 0 && " (no media crosses this node's braids now)"}.</>}
      </figcaption>
    </figure>
  );
}

function Link({ link, a, b }) {
  if (!a || !b) return null;
  return (
    <line class={link.down ? "link down" : link.loss > 0.01 ? "link lossy" : "link"} x1={a.x} y1={a.y} x2={b.x} y2={b.y}>
      <title>{`${link.ms} ms${link.down ? ", down" : `, ${(100 * link.loss).toFixed(2)} % lost`}`}</title>
    </line>
  );
}

function Path({ path, places, order }) {
  const points = path.hops.map((h) => places.get(h)).filter(Boolean);
  if (points.length < 2) return null;
  return (
    <polyline class={`path path${order}${path.alive ? "" : " dead"}`} points={points.map((p) => `${p.x},${p.y}`).join(" ")}>
      <title>{`${path.hops.join(" > ")}: ${number(path.rescued)} rescued, ${number(path.lost)} lost`}</title>
    </polyline>
  );
}

// In a dense mesh the nodes are no stops of the keyboard, which chooses from the list above the map.
function Node({ member, at, self, chosen, label, stop, choose }) {
  if (!at) return null;
  const kind = !member.alive ? "dead" : member.state === "serving" ? "well" : "other";
  const press = (e) => {
    if (e.type === "click" || e.key === "Enter" || e.key === " ") {
      e.preventDefault();
      choose(member.node);
    }
  };
  const side = at.x < size.width * 0.12 ? "start" : at.x > size.width * 0.88 ? "end" : "middle"; // labels stay on the map
  return (
    <g class={`node ${kind}${self ? " self" : ""}${chosen ? " chosen" : ""}`} transform={`translate(${at.x} ${at.y})`} tabindex={stop ? "0" : "-1"} role="button"
      aria-pressed={chosen} aria-label={`${member.node} in ${member.region}, ${member.alive ? member.state : "dead"}, ${member.sessions} clients`} onClick={press} onKeyDown={press}>
      <circle r={self ? 9 : 7} />
      {label && <text y="-13" text-anchor={side}>{member.node}</text>}
      {label && member.sessions > 0 && <text class="small" y="26" text-anchor={side}>{number(member.sessions)}</text>}
      <title>{`${member.node} (${member.region})`}</title>
    </g>
  );
}

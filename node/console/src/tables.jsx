// The tables: paths of the braids, channels of the mesh, nodes, and what the filter dropped.
import { useEffect, useState } from "preact/hooks";
import { Denied, get, number, percent } from "./api.js";

function Hops({ hops }) {
  return <span class="hops">{hops.join(" › ")}</span>;
}

// PathRows shows what each path carried, lost and rescued; a rescue is a frame that the best path lost and this one brought.
function PathRows({ paths, direction }) {
  return paths.filter((p) => p.active).map((p) => (
    <tr key={direction + p.id}>
      <td data-label="Path"><Hops hops={p.hops} /></td>
      <td data-label="State">{p.alive ? "in use" : <b class="bad">dead</b>}</td>
      <td data-label="Sent" class="n">{number(p.sent)}</td>
      <td data-label="Lost" class="n">{percent(p.lost, p.sent)}</td>
      <td data-label="First in" class="n">{percent(p.first, p.sent)}</td>
      <td data-label="Rescued" class="n"><b>{number(p.rescued)}</b></td>
      <td data-label="Delay" class="n">{p.delay_ms.toFixed(1)} ms</td>
    </tr>
  ));
}

const pathHead = (
  <thead><tr><th>Path</th><th>State</th><th class="n">Sent</th><th class="n">Lost</th><th class="n">First in</th><th class="n">Rescued</th><th class="n">Delay</th></tr></thead>
);

export function Paths({ state, peer }) {
  const braids = state.braids.filter((b) => !peer || b.peer === peer);
  if (braids.length === 0) {
    return <p class="empty">{peer ? `No media flows between ${state.node} and ${peer}.` : `No media flows between ${state.node} and other nodes.`}</p>;
  }
  return braids.map((b) => (
    <section key={b.peer + b.fence} class="card">
      <h3>{state.node} and {b.peer}</h3>
      <p class="sums">
        <span>sent <b>{number(b.packets_sent)}</b></span>
        <span>delivered here <b>{number(b.packets_delivered)}</b></span>
        <span>undelivered <b class={b.undelivered > 0 ? "bad" : ""}>{number(b.undelivered)}</b></span>
        <span>repaired <b>{number(b.repaired)}</b></span>
        <span>copies dropped <b>{number(b.duplicates_dropped)}</b></span>
      </p>
      <table>
        {pathHead}
        <tbody>
          <PathRows paths={b.out} direction="out" />
          <PathRows paths={b.in} direction="in" />
        </tbody>
      </table>
    </section>
  ));
}

const channelsEvery = 10_000;

export function Channels({ denied }) {
  const [q, setQ] = useState("");
  const [answer, setAnswer] = useState(null);
  const [error, setError] = useState("");
  useEffect(() => {
    let live = true;
    const look = async () => {
      try {
        const a = await get(`/v1/channels?limit=100&q=${encodeURIComponent(q)}`);
        if (live) setAnswer(a), setError("");
      } catch (e) {
        if (e instanceof Denied) denied();
        else if (live) setError(e.message);
      }
    };
    const soon = setTimeout(look, answer === null ? 0 : 200);
    const again = setInterval(() => document.hidden || look(), channelsEvery);
    return () => { live = false; clearTimeout(soon); clearInterval(again); };
  }, [q]);
  return (
    <>
      <label class="search">Find a channel <input type="search" value={q} onInput={(e) => setQ(e.currentTarget.value)} placeholder="app or name" /></label>
      {error && <p role="alert" class="bad">{error}</p>}
      {answer === null ? <p class="empty">Asking the nodes…</p> : <ChannelTable answer={answer} q={q} />}
    </>
  );
}

function ChannelTable({ answer, q }) {
  if (answer.channels.length === 0) return <p class="empty">{q ? "No channel has this in its name." : "Nobody publishes or watches now."}</p>;
  return (
    <>
      {answer.silent.length > 0 && <p class="note">No answer from {answer.silent.join(", ")}: their part is missing.</p>}
      {answer.channels.map((c) => <Channel key={`${c.app}/${c.channel}`} channel={c} />)}
      {answer.more > 0 && <p class="note">{number(answer.more)} more with fewer viewers: search for them by name.</p>}
    </>
  );
}

function Channel({ channel }) {
  const places = channel.streams.flatMap((s) => s.at);
  const delivered = places.reduce((n, a) => n + a.delivered, 0), undelivered = places.reduce((n, a) => n + a.undelivered, 0);
  const rescued = places.flatMap((a) => a.paths || []).reduce((n, p) => n + p.rescued, 0);
  const freezes = places.reduce((n, a) => n + (a.freezes || 0), 0), frozen = places.reduce((n, a) => n + (a.frozen_seconds || 0), 0);
  const origins = [...new Set(channel.streams.map((s) => s.origin).filter(Boolean))];
  return (
    <details class="card channel">
      <summary>
        <b>{channel.channel}</b> <span class="dim">{channel.app}</span>
        <span>from {origins.join(", ") || "?"}</span>
        <span><b>{number(channel.viewers)}</b> watching</span>
        <span>lost {percent(undelivered, delivered + undelivered)}</span>
        <span>frozen <b class={freezes > 0 ? "bad" : ""}>{number(freezes)}</b>{freezes > 0 && ` times, ${frozen.toFixed(1)} s`}</span>
        <span>rescued <b>{number(rescued)}</b></span>
      </summary>
      {channel.streams.map((s) => (
        <div key={s.stream}>
          <h4>{s.stream} <span class="dim">enters at {s.origin || "a node that did not answer"}</span></h4>
          {s.at.length === 0 && <p class="empty">Nobody watches.</p>}
          {s.at.map((a) => (
            <div key={a.node}>
              <p><b>{number(a.viewers)}</b> at {a.node}{a.source && a.source !== a.node && <>, from {a.source}: {number(a.delivered)} delivered, {number(a.undelivered)} not, {number(a.repaired)} repaired</>}</p>
              <Fares at={a} />
              {a.paths?.length > 0 && <table>{pathHead}<tbody><PathRows paths={a.paths} direction="in" /></tbody></table>}
            </div>
          ))}
        </div>
      ))}
    </details>
  );
}

// Fares is how the viewers at one node fare. A freeze is a gap in the frames written to them; what is lost after the node shows
// as keyframes that they ask for.
function Fares({ at }) {
  return (
    <p class="sums">
      <span>frozen <b class={at.freezes > 0 ? "bad" : ""}>{number(at.freezes || 0)}</b> times{at.freezes > 0 && <> at {number(at.frozen_viewers)} viewers, {at.frozen_seconds.toFixed(1)} s</>}</span>
      <span>keyframes asked for <b>{number(at.keyframe_asks || 0)}</b></span>
      {at.trip_ms > 0 && <span>longest last mile <b>{at.trip_ms.toFixed(0)} ms</b> there and back</span>}
    </p>
  );
}

export function Nodes({ state, choose }) {
  return (
    <table>
      <thead><tr><th>Node</th><th>Region</th><th>State</th><th class="n">Policy</th><th>Votes</th><th class="n">Clients</th><th class="n">Load</th></tr></thead>
      <tbody>
        {state.members.map((m) => (
          <tr key={m.node}>
            <td data-label="Node"><button class="plain" onClick={() => choose(m.node)}>{m.node}</button>{m.node === state.leader && <span class="dim"> leads</span>}</td>
            <td data-label="Region">{m.region}</td>
            <td data-label="State">{m.alive ? m.state : <b class="bad">dead</b>}</td>
            <td data-label="Policy" class="n">{m.policy_version < state.policy_version ? <b class="bad">{m.policy_version}</b> : m.policy_version}</td>
            <td data-label="Votes">{m.voter ? "yes" : ""}</td>
            <td data-label="Clients" class="n">{number(m.sessions)}</td>
            <td data-label="Load" class="n">{m.load.toFixed(2)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

export function Filter({ state }) {
  return (
    <>
      <p>Mode: <b>{state.filter}</b>. Packets dropped at {state.node} since it started, by reason.</p>
      {state.drops.length === 0 ? <p class="empty">None.</p> : (
        <table>
          <thead><tr><th>Class</th><th>Reason</th><th class="n">Packets</th></tr></thead>
          <tbody>
            {state.drops.map((d) => (
              <tr key={d.class + d.reason}><td data-label="Class">{d.class}</td><td data-label="Reason">{d.reason}</td><td data-label="Packets" class="n">{number(d.packets)}</td></tr>
            ))}
          </tbody>
        </table>
      )}
    </>
  );
}

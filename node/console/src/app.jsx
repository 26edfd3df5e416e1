// The page: polls its node every two seconds while somebody looks, and shows one of a few views. The address keeps the view.
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Denied, duration, get, number, setToken } from "./api.js";
import { Charts } from "./charts.jsx";
import { Map_ } from "./map.jsx";
import { Channels, Filter, Nodes, Paths } from "./tables.jsx";

const pollEvery = 2000, samplesEvery = 10_000, samplesKept = 360;
const views = [["map", "Map"], ["channels", "Channels"], ["nodes", "Nodes"], ["hour", "Last hour"], ["filter", "Filter"]];

// usePoll calls f at once and then every so often, not while the page is hidden.
function usePoll(f, every, deps) {
  useEffect(() => {
    let timer = 0, live = true;
    const go = async () => {
      if (!document.hidden) await f();
      if (live) timer = setTimeout(go, every);
    };
    const seen = () => { if (!document.hidden) { clearTimeout(timer); go(); } };
    go();
    document.addEventListener("visibilitychange", seen);
    return () => { live = false; clearTimeout(timer); document.removeEventListener("visibilitychange", seen); };
  }, deps);
}

function App() {
  const [state, setState] = useState(null);
  const [samples, setSamples] = useState([]);
  const [error, setError] = useState("");
  const [denied, setDenied] = useState(false);
  const [view, setView] = useState(location.hash.slice(1) || "map");
  const [peer, setPeer] = useState("");
  useEffect(() => {
    const moved = () => setView(location.hash.slice(1) || "map");
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  const guarded = async (f) => {
    try {
      await f();
      setError("");
    } catch (e) {
      if (e instanceof Denied) setDenied(true);
      else setError(e.message);
    }
  };
  usePoll(() => denied || guarded(async () => setState(await get("/v1/console"))), pollEvery, [denied]);
  usePoll(() => denied || guarded(async () => {
    const since = samples.length ? samples[samples.length - 1].at : 0;
    const more = await get(`/v1/history?since=${since}`);
    setSamples((old) => [...old, ...more.filter((s) => !old.length || s.at > old[old.length - 1].at)].slice(-samplesKept));
  }), samplesEvery, [denied]);
  if (denied) return <Login done={(t) => { setToken(t); setDenied(false); }} />;
  if (!state) return <main class="empty" aria-busy="true">{error || "Asking the node…"}</main>;
  const choose = (node) => setPeer(node === peer || node === state.node ? "" : node);
  return (
    <>
      <Head state={state} error={error} view={view} />
      <main>
        {view === "map" && <><Findings list={state.findings} /><Map_ state={state} peer={peer} choose={choose} /><Paths state={state} peer={peer} /></>}
        {view === "channels" && <Channels denied={() => setDenied(true)} />}
        {view === "nodes" && <Nodes state={state} choose={(n) => { setPeer(n); location.hash = "map"; }} />}
        {view === "hour" && <Charts samples={samples} />}
        {view === "filter" && <Filter state={state} />}
      </main>
    </>
  );
}

function Head({ state, error, view }) {
  const alive = state.members.filter((m) => m.alive).length;
  const worst = state.findings.some((f) => f.severity === "critical") ? "bad" : state.findings.length ? "warn" : "good";
  return (
    <header>
      <div class="who">
        <h1>{state.node}</h1>
        <span class="dim">{state.region}, mesh {state.mesh}</span>
        <span class={`verdict ${worst}`} role="status">{state.findings.length === 0 ? "Fine" : `${state.findings.length} to look at`}</span>
      </div>
      <p class="facts">
        <span>{state.state}, up {duration(state.uptime_seconds)}</span><span>policy <b>{state.policy_version}</b></span>
        <span>leader <b>{state.leader || "none"}</b></span><span><b>{alive}</b> of {state.members.length} nodes</span>
        <span><b>{number(Object.values(state.access.sessions || {}).reduce((a, b) => a + b, 0))}</b> clients here</span>
      </p>
      <nav aria-label="Views">
        {views.map(([id, label]) => <a key={id} href={`#${id}`} aria-current={view === id ? "page" : undefined}>{label}</a>)}
      </nav>
      {error && <p role="alert" class="stale">{error}</p>}
    </header>
  );
}

function Findings({ list }) {
  if (list.length === 0) return null;
  return (
    <section aria-label="What is not as it should be" class="findings">
      {list.map((f) => (
        <div key={f.name + f.where} class={`finding ${f.severity}`}>
          <p><b>{f.where}</b> {f.what}</p>
          <p class="dim">{f.do}</p>
        </div>
      ))}
    </section>
  );
}

function Login({ done }) {
  const [token, set] = useState("");
  return (
    <main class="login">
      <h1>Admin token</h1>
      <p>This node asks who you are. The token stays in this tab and is sent to this node alone.</p>
      <form onSubmit={(e) => { e.preventDefault(); done(token.trim()); }}>
        <label>Token <input type="password" autocomplete="off" value={token} onInput={(e) => set(e.currentTarget.value)} required /></label>
        <button>Enter</button>
      </form>
    </main>
  );
}

render(<App />, document.getElementById("app"));

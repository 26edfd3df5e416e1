// Charts of the node's own last hour (uPlot). Each has a text beside it, for those who do not see it.
import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { number } from "./api.js";

const ranges = [[300, "5 min"], [1800, "30 min"], [3600, "1 h"]];

const charts = [
  { title: "Clients' packets a second", series: [["in", "packets_in"], ["out", "packets_out"]] },
  { title: "Media frames from peers a second", series: [["delivered", "delivered"], ["rescued", "rescued"]] },
  { title: "Frames that no path brought at first", series: [["repaired", "repaired"], ["undelivered", "undelivered"]] },
  { title: "Packets that the filter dropped a second", series: [["dropped", "dropped"]] },
  { title: "Clients and live nodes", series: [["clients", "sessions"], ["nodes", "members"]] },
];

export function Charts({ samples }) {
  const [range, setRange] = useState(1800);
  const from = Date.now() - range * 1000;
  const shown = samples.filter((s) => s.at >= from);
  return (
    <>
      <fieldset class="ranges"><legend>Show the last</legend>
        {ranges.map(([seconds, label]) => (
          <label key={seconds}><input type="radio" name="range" checked={range === seconds} onChange={() => setRange(seconds)} /> {label}</label>
        ))}
      </fieldset>
      {shown.length < 2 ? <p class="empty">The node samples itself every 10 seconds: wait for two.</p> : <div class="charts">{charts.map((c) => <Chart key={c.title} chart={c} samples={shown} />)}</div>}
    </>
  );
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function Chart({ chart, samples }) {
  const box = useRef(null), plot = useRef(null);
  const data = [samples.map((s) => s.at / 1000), ...chart.series.map(([, key]) => samples.map((s) => s[key]))];
  useEffect(() => {
    const at = box.current; // the reference is empty when the chart goes
    const make = () => {
      plot.current?.destroy();
      const axis = { stroke: colour("--dim"), grid: { stroke: colour("--rule"), width: 1 }, ticks: { stroke: colour("--rule"), width: 1 } };
      plot.current = new uPlot({
        width: at.clientWidth, height: 170, legend: { show: false }, cursor: { y: false },
        scales: { y: { range: (_, __, high) => [0, Math.max(high, 1) * 1.1] } },
        axes: [axis, { ...axis, size: 56 }],
        series: [{}, ...chart.series.map(([label], i) => ({ label, stroke: colour(`--series${i}`), width: 2, fill: i === 0 ? colour(`--series${i}`) + "22" : undefined }))],
      }, data, at);
    };
    make();
    const resized = new ResizeObserver(() => plot.current?.setSize({ width: at.clientWidth, height: 170 }));
    resized.observe(at);
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", make);
    return () => { resized.disconnect(); scheme.removeEventListener("change", make); plot.current?.destroy(); plot.current = null; };
  }, [chart]);
  useEffect(() => plot.current?.setData(data), [samples]);
  const last = samples[samples.length - 1];
  return (
    <figure class="card chart">
      <figcaption>{chart.title}: {chart.series.map(([label, key], i) => <span key={key}><i class={`key key${i}`} />{label} <b>{number(last[key], 1)}</b> </span>)}</figcaption>
      <div ref={box} aria-hidden="true" />
    </figure>
  );
}

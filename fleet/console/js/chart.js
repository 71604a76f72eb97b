// Curves of one or two metrics over time. Where values were merged, the band from lowest to highest is drawn too.
import uPlot from "../vendor/uplot.js";
import { useEffect, useRef, useState } from "../vendor/hooks.js";
import { api, html, query, show, useLoad } from "./lib.js";

const DARK = matchMedia("(prefers-color-scheme: dark)");

function useScheme() {
  const [dark, set] = useState(DARK.matches);
  useEffect(() => {
    const changed = () => set(DARK.matches);
    DARK.addEventListener("change", changed);
    return () => DARK.removeEventListener("change", changed);
  }, []);
  return dark;
}

/** Columns for uPlot: one axis of times, for each curve lowest, mean and highest. */
function columns(curves, end) {
  const times = [...new Set(curves.flatMap((curve) => curve.ts))].sort((a, b) => a - b);
  if (times.length && times.at(-1) < end) times.push(end); // told by exception: the last value holds until now
  const data = [times.map((ts) => ts / 1000)];
  for (const curve of curves) {
    const at = new Map(curve.ts.map((ts, index) => [ts, index]));
    for (const kind of ["low", "mean", "high"]) {
      let last = null;
      data.push(times.map((ts) => (at.has(ts) ? (last = curve[kind][at.get(ts)]) : curve.step_ms ? null : last)));
    }
  }
  return data;
}

function options(metrics, curves, size, range) {
  const css = getComputedStyle(document.documentElement);
  const colour = (name) => css.getPropertyValue(name).trim();
  const axis = { stroke: colour("--ink-soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") }, font: "12px sans-serif" };
  const shared = metrics.every((metric) => metric.unit === metrics[0].unit && metric.unit !== "");
  const scales = ["a", shared ? "a" : "b"];
  const draw = (index, kind) => ({
    scale: scales[index],
    stroke: colour(`--curve-${index + 1}`),
    width: kind === "mean" ? 2 : 0,
    points: { show: false },
    spanGaps: true,
    paths: curves[index].step_ms ? undefined : uPlot.paths.stepped({ align: 1 }),
  });
  const series = [{}, ...curves.flatMap((_, index) => ["low", "mean", "high"].map((kind) => draw(index, kind)))];
  const bands = curves.flatMap((curve, index) => (curve.step_ms ? [{ series: [3 * index + 3, 3 * index + 1], fill: `${colour(`--curve-${index + 1}`)}33` }] : []));
  const values = (metric) => (_, ticks) => ticks.map((tick) => show(metric, tick));
  return {
    ...size,
    legend: { show: false },
    cursor: { show: false },
    scales: { x: { min: range[0] / 1000, max: range[1] / 1000 } },
    axes: [axis, ...(shared ? metrics.slice(0, 1) : metrics).map((metric, index) => ({ ...axis, scale: scales[index], side: index ? 1 : 3, size: 64, values: values(metric), grid: index ? { show: false } : axis.grid }))],
    series,
    bands,
  };
}

function summary(title, curve, metric) {
  if (!curve.mean.length) return `${title}: nothing was told in this time`;
  const low = Math.min(...curve.low);
  const high = Math.max(...curve.high);
  return `${title}: ${show(metric, curve.mean.at(-1))} last, from ${show(metric, low)} to ${show(metric, high)}`;
}

export function Chart({ title, device, names, titles, metrics, span, stamp }) {
  const box = useRef();
  const dark = useScheme();
  const [found] = useLoad(async () => {
    const end = Date.now();
    const range = [end - span, end];
    const curves = await Promise.all(
      names.map((metric) => api("GET", `/devices/${encodeURIComponent(device)}/health${query({ metric, begin: range[0], end })}`)),
    );
    return { range, curves };
  }, [device, names.join(), span, stamp]);
  const empty = Boolean(found) && found.curves.every((curve) => !curve.ts.length);
  useEffect(() => {
    if (!found || empty) return undefined;
    const place = box.current; // the reference is gone before the observer is
    const size = () => ({ width: place.clientWidth, height: place.clientHeight });
    const plot = new uPlot(options(metrics, found.curves, size(), found.range), columns(found.curves, found.range[1]), place);
    const observer = new ResizeObserver(() => plot.setSize(size()));
    observer.observe(place);
    return () => {
      observer.disconnect();
      plot.destroy();
    };
  }, [found, dark]);
  const texts = found ? found.curves.map((curve, index) => summary(titles[index], curve, metrics[index])) : ["loading"];
  return html`<figure class="chart card">
    <figcaption><h3>${title}</h3>
      <p class="small soft">${titles.map((text, index) => html`<span class="key ${index ? "two" : "one"}" aria-hidden="true"></span>${text}`)}</p></figcaption>
    ${empty && html`<p class="soft">Nothing was told in this time.</p>`}
    <div class="plot" hidden=${empty} ref=${box} role="img" aria-label=${texts.join("; ")}></div>
  </figure>`;
}

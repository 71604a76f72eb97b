// The overview: how many boxes are well, and a list that can be filtered.
import { useState } from "../vendor/hooks.js";
import { ago, api, Condition, conditionName, html, query, show, State, stateName, Title, Trouble, useLive, useLoad, useTick } from "./lib.js";
import { Enrol } from "./enrol.js";
import { SiteMap } from "./map.js";
import { Renewals } from "./renewals.js";

const EMPTY = { q: "", state: "", condition: "", site: "", model: "", release: "" };

function Choice({ label, name, counts, wanted, onChange, words = (value) => value || "(not told)" }) {
  const values = Object.entries(counts || {}).filter(([value]) => value);
  return html`<label>${label}
    <select value=${wanted[name]} onChange=${(event) => onChange({ ...wanted, [name]: event.target.value })}>
      <option value="">All</option>
      ${values.map(([value, count]) => html`<option value=${value} selected=${wanted[name] === value}>${words(value)} (${count})</option>`)}
    </select>
  </label>`;
}

function Tiles({ facets, wanted, onChange }) {
  const sum = Object.values(facets.state).reduce((all, count) => all + count, 0);
  const tiles = [
    ["All boxes", sum, EMPTY],
    ["Online", facets.state.online || 0, { ...EMPTY, state: "online" }],
    ["Lost", facets.state.lost || 0, { ...EMPTY, state: "lost" }],
    ["Silent", facets.state.silent || 0, { ...EMPTY, state: "silent" }],
    ["To act on", facets.condition.bad || 0, { ...EMPTY, condition: "bad" }],
    ["To look at", facets.condition.warn || 0, { ...EMPTY, condition: "warn" }],
  ];
  return html`<ul class="tiles">
    ${tiles.map(
      ([text, count, filter]) =>
        html`<li><button aria-pressed=${JSON.stringify(filter) === JSON.stringify(wanted)} onClick=${() => onChange(filter)}><b>${count}</b>${text}</button></li>`,
    )}
  </ul>`;
}

function Row({ box, metrics }) {
  const value = (name) => show(metrics[name.split(".")[0]], box.health[name]);
  return html`<tr>
    <td><${State} of=${box.state} /></td>
    <th scope="row"><a href=${`#box/${encodeURIComponent(box.name)}`}>${box.name}</a>${box.revoked ? html` <span class="mark bad">No certificate</span>` : ""}
      <span class="narrow small soft">${box.site}${box.site && ", "}${ago(box.seen)}</span></th>
    <td class="wide">${box.site}</td>
    <td class="wide">${box.model}</td>
    <td class="wide">${box.release}</td>
    <td><${Condition} of=${box.condition} /></td>
    <td class="number wide">${value("temperature")}</td>
    <td class="number wide">${value("rung")}</td>
    <td class="number wide">${value("fps")}</td>
    <td class="number wide">${value("stage_p95_ms.sound_heard")}</td>
    <td class="number wide">${ago(box.seen)}</td>
  </tr>`;
}

export function Fleet({ me, catalogue }) {
  const [wanted, setWanted] = useState(EMPTY);
  const [limit, setLimit] = useState(200);
  const [enrolling, setEnrolling] = useState(false);
  const [shown, setShown] = useState("list");
  const [found, trouble, again] = useLoad(() => api("GET", `/devices${query({ ...wanted, limit })}`), [JSON.stringify(wanted), limit]);
  useLive(() => true, again, [again]);
  useTick(10);
  const metrics = Object.fromEntries(catalogue.metrics.map((metric) => [metric.name, metric]));
  const choose = (name, label, words) =>
    html`<${Choice} label=${label} name=${name} counts=${found?.facets[name]} wanted=${wanted} onChange=${setWanted} words=${words} />`;
  return html`
    <div class="row between"><${Title} text="Boxes" />
      ${me.role === "admin" && !me.scope?.length && html`<button class="primary" onClick=${() => setEnrolling(true)}>Enrol a box</button>`}</div>
    ${enrolling && html`<${Enrol} onClose=${() => (setEnrolling(false), again())} />`}
    <${Trouble} text=${trouble} />
    ${me.role === "admin" && !me.scope?.length && html`<${Renewals} />`}
    ${me.scope?.length > 0 && html`<p class="small soft">You see the boxes of ${me.scope.join(", ")}.</p>`}
    ${found && html`<${Tiles} facets=${found.facets} wanted=${wanted} onChange=${setWanted} />`}
    <section class="card" aria-label="List of boxes">
      <div class="row" role="group" aria-label="How to show them" style=${{ marginBottom: "0.75rem" }}>
        ${[["list", "List"], ["map", "Map"]].map(([kind, text]) => html`<button key=${kind} aria-pressed=${shown === kind} onClick=${() => setShown(kind)}>${text}</button>`)}
      </div>
      <form class="row" role="search" onSubmit=${(event) => event.preventDefault()}>
        <label>Name or site<input type="search" value=${wanted.q} onInput=${(event) => setWanted({ ...wanted, q: event.target.value })} /></label>
        ${choose("state", "State", stateName)} ${choose("condition", "Health", conditionName)} ${choose("site", "Site")}
        ${choose("model", "Model")} ${choose("release", "Version")}
      </form>
      ${shown === "map" && html`<div style=${{ marginTop: "1rem" }}><${SiteMap} wanted=${wanted} onChange=${setWanted} /></div>`}
      ${found && found.devices.length === 0 && html`<p class="soft" style=${{ marginTop: "1rem" }}>${
        Object.values(wanted).some(Boolean) ? "No box matches." : "No boxes yet: enrol the first one."
      }</p>`}
      ${found && found.devices.length > 0 && html`<div style=${{ marginTop: "1rem" }}>
        <table>
          <thead><tr>
            <th scope="col">State</th><th scope="col">Box</th><th scope="col" class="wide">Site</th><th scope="col" class="wide">Model</th>
            <th scope="col" class="wide">Version</th><th scope="col">Health</th><th scope="col" class="number wide">Hottest</th>
            <th scope="col" class="number wide">Rung</th><th scope="col" class="number wide">Frames</th>
            <th scope="col" class="number wide">Answer, 95 %</th><th scope="col" class="number wide">Heard</th>
          </tr></thead>
          <tbody>${found.devices.map((box) => html`<${Row} key=${box.name} box=${box} metrics=${metrics} />`)}</tbody>
        </table>
        ${found.devices.length === limit && limit < 1000 && html`<button onClick=${() => setLimit(Math.min(1000, limit + 400))}>More</button>`}
      </div>`}
    </section>`;
}

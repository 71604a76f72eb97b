// One box: how it is now and was, what happened, what it may be told to do.
import { useState } from "../vendor/hooks.js";
import { ago, api, clock, Condition, html, query, show, State, Sure, Title, Trouble, useLive, useLoad, useTick, verdict } from "./lib.js";
import { BoxAlerts } from "./alerts.js";
import { Chart } from "./chart.js";
import { Commands } from "./commands.js";
import { Enrol } from "./enrol.js";
import { BoxJobs } from "./jobs.js";
import { EventRows } from "./logs.js";
import { BoxSettings } from "./settings.js";

const SPANS = [["Hour", 3600e3], ["6 hours", 6 * 3600e3], ["Day", 86400e3], ["Week", 7 * 86400e3], ["90 days", 90 * 86400e3]];
const CHARTS = [
  ["Heat and quality", ["temperature", "rung"]],
  ["From the end of speech to the answer's sound", ["stage_p50_ms.sound_heard", "stage_p95_ms.sound_heard"]],
  ["Frames", ["fps", "page_fps"]],
  ["Load and memory", ["load", "memory_free"]],
  ["Turns", ["turns", "turns_aborted"]],
  ["Power and disk", ["power_watts", "disk_free"]],
];
const GROUPS = { talk: "Conversation", face: "Face", sound: "Sound", heat: "Heat and power", machine: "Machine", nodes: "Nodes", uplink: "Uplink" };

function Health({ box, metrics }) {
  const rows = Object.entries(box.health).map(([name, value]) => {
    const [base, part] = name.split(".");
    return { metric: metrics[base], part, value, name };
  });
  return html`<div class="groups">${Object.entries(GROUPS).map(([group, title]) => {
    const mine = rows.filter((row) => row.metric?.group === group).sort((a, b) => (a.part || "").localeCompare(b.part || ""));
    return mine.length > 0 && html`<section class="card" key=${group}><table>
      <caption>${title}</caption>
      <thead class="unseen"><tr><th scope="col">What</th><th scope="col">Value</th></tr></thead>
      <tbody>${mine.map(({ metric, part, value, name }) => {
        const found = verdict(metric, value);
        const text = show(metric, value);
        return html`<tr key=${name}><th scope="row">${metric.title}${part ? html` <span class="soft">${part.replaceAll("_", " ")}</span>` : ""}</th>
          <td class="number">${found ? html`<span class="mark ${found}">${text}</span>` : text}</td></tr>`;
      })}</tbody>
    </table></section>`;
  })}</div>`;
}

function Certificates({ box, certificates, me, again }) {
  const [asking, setAsking] = useState(false);
  const [enrolling, setEnrolling] = useState(false);
  const [trouble, setTrouble] = useState("");
  const revoke = () =>
    api("POST", `/devices/${encodeURIComponent(box.name)}/revoke`).then(() => (setAsking(false), again()), (error) => (setAsking(false), setTrouble(error.message)));
  return html`<section class="card">
    <h2>Certificates</h2>
    <${Trouble} text=${trouble} />
    <table><thead><tr><th scope="col">Serial</th><th scope="col" class="wide">Made</th><th scope="col">Valid until</th><th scope="col">Revoked</th></tr></thead>
      <tbody>${certificates.map((one) => html`<tr key=${one.serial}><th scope="row"><code>${one.serial.slice(0, 12)}…</code></th>
        <td class="wide">${clock(one.issued)}</td><td>${clock(one.expires)}</td><td>${one.revoked ? clock(one.revoked) : "no"}</td></tr>`)}</tbody></table>
    ${me.role === "admin" && !me.scope?.length && html`<div class="row" style=${{ marginTop: "0.75rem" }}>
      <button onClick=${() => setEnrolling(true)}>New certificate</button>
      <button class="danger" disabled=${box.revoked} onClick=${() => setAsking(true)}>Revoke all</button></div>`}
    ${asking && html`<${Sure} text=${`${box.name} loses its connection now and cannot come back before it gets a new certificate by hand.`} action="Revoke" onYes=${revoke} onNo=${() => setAsking(false)} />`}
    ${enrolling && html`<${Enrol} name=${box.name} onClose=${() => (setEnrolling(false), again())} />`}
  </section>`;
}

export function Box({ name, me, catalogue }) {
  const [span, setSpan] = useState(SPANS[0][1]);
  const [stamp, setStamp] = useState(0);
  const path = encodeURIComponent(name);
  const [found, trouble, again] = useLoad(() => api("GET", `/devices/${path}`), [name]);
  const [events, , moreEvents] = useLoad(() => api("GET", `/events${query({ device: name, limit: 50 })}`), [name]);
  useLive((one) => one === name, () => (again(), moreEvents(), setStamp((n) => n + 1)), [again]);
  useTick(10);
  if (!found) return html`<${Title} text=${name} /><${Trouble} text=${trouble} />`;
  const { device: box, certificates } = found;
  const metrics = Object.fromEntries(catalogue.metrics.map((metric) => [metric.name, metric]));
  const concerns = Object.entries(box.health).flatMap(([one, value]) => {
    const [base, part] = one.split(".");
    const found = metrics[base] && verdict(metrics[base], value);
    return found ? [{ title: `${metrics[base].title}${part ? ` ${part.replaceAll("_", " ")}` : ""}`, found, text: show(metrics[base], value) }] : [];
  });
  const facts = [
    ["Site", box.site], ["Model", box.model], ["Pack", box.birth.pack], ["Avatar", box.birth.avatar],
    ["Last heard", ago(box.seen)], ["In this state since", clock(box.since)],
    ...Object.entries(box.birth.versions || {}),
  ].filter(([, value]) => value);
  return html`
    <p class="small"><a href="#fleet">Boxes</a></p>
    <div class="row between"><${Title} text=${name} /><span class="row"><${State} of=${box.state} /><${Condition} of=${box.condition} /></span></div>
    <${Trouble} text=${trouble} />
    ${box.revoked && html`<p class="note bad">This box has no valid certificate: it cannot connect.</p>`}
    ${box.state === "new" && html`<p class="note">This box has never been heard: its files are in place and its broker can be reached?</p>`}
    ${concerns.length > 0 && html`<section class="note"><h2>To look at</h2><ul class="row">${concerns.map(
      ({ title, found, text }) => html`<li key=${title}>${title}: <span class="mark ${found}">${text}</span></li>`,
    )}</ul></section>`}
    <${BoxAlerts} name=${name} />
    <section class="card"><h2>What it is</h2><dl class="groups">${facts.map(
      ([key, value]) => html`<div key=${key}><dt class="small soft">${key}</dt><dd>${value}</dd></div>`,
    )}</dl></section>
    <section aria-label="Charts">
      <div class="row between"><h2>Over time</h2><div class="row" role="group" aria-label="How far back">${SPANS.map(
        ([text, value]) => html`<button key=${text} aria-pressed=${span === value} onClick=${() => setSpan(value)}>${text}</button>`,
      )}</div></div>
      <div class="charts">${CHARTS.map(([title, names]) => {
        const rows = names.map((one) => metrics[one.split(".")[0]]);
        const titles = names.map((one, index) => rows[index].title);
        return html`<${Chart} key=${title} title=${title} device=${name} names=${names} titles=${titles} metrics=${rows} span=${span} stamp=${stamp} />`;
      })}</div>
    </section>
    <section aria-label="Health"><h2>Now <span class="soft small">told ${ago(box.health_ts)}</span></h2><${Health} box=${box} metrics=${metrics} /></section>
    ${!me.scope?.length && html`<${BoxSettings} box=${box} me=${me} catalogue=${catalogue} stamp=${stamp} />`}
    <${Commands} box=${box} me=${me} catalogue=${catalogue} stamp=${stamp} />
    ${!me.scope?.length && html`<${BoxJobs} box=${box} stamp=${stamp} />`}
    <section class="card"><h2>Events</h2><${EventRows} events=${events} catalogue=${catalogue} /></section>
    <${Certificates} box=${box} certificates=${certificates} me=${me} again=${again} />`;
}

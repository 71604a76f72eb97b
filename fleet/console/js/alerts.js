// Alerts: what fires now, by rule and site; what was; one alert with its history. Rules, maintenance and channels are in files of their own.
import { useEffect, useRef, useState } from "../vendor/hooks.js";
import { api, clock, html, query, Severity, span, Title, Trouble, useLive, useLoad, useTick } from "./lib.js";
import { Channels } from "./channels.js";
import { Maintenance } from "./maintenance.js";
import { Rules } from "./rules.js";

export const ALERTS = (name) => name === "/alerts";
const MOST = 1000;
const FORS = [[60, "1 hour"], [240, "4 hours"], [1440, "1 day"], [10080, "7 days"]];
const TABS = [["", "Now", "viewer"], ["history", "History", "viewer"], ["rules", "Rules", "viewer"], ["maintenance", "Maintenance", "viewer"], ["channels", "Who is told", "admin"]];
const OPEN = ["", "history"]; // to whoever is limited to some boxes: rules, maintenance and channels are about all of them

/** How many alerts fire and nobody has acknowledged, for the navigation. */
export function useAlertCounts(on) {
  const [found, , again] = useLoad(() => (on ? api("GET", "/alerts?state=firing&limit=1") : Promise.resolve(null)), [on]);
  useLive(ALERTS, again, [again]);
  return found?.counts;
}

export const Tabs = ({ at, me }) => html`<nav class="tabs" aria-label="Alerts">
  ${TABS.filter(([page, , role]) => (me.scope?.length ? OPEN.includes(page) : role === "viewer" || me.role === role)).map(
    ([page, text]) => html`<a href=${page ? `#alerts/${page}` : "#alerts"} aria-current=${at === page ? "page" : null}>${text}</a>`,
  )}</nav>`;

export function Alerts({ rest, me, catalogue }) {
  const at = rest[0] || "";
  if (at === "history") return html`<${History} me=${me} />`;
  if (me.scope?.length) return html`<${Now} me=${me} />`;
  if (at === "rules") return html`<${Rules} me=${me} catalogue=${catalogue} tabs=${html`<${Tabs} at="rules" me=${me} />`} />`;
  if (at === "maintenance") return html`<${Maintenance} me=${me} tabs=${html`<${Tabs} at="maintenance" me=${me} />`} />`;
  if (at === "channels" && me.role === "admin") return html`<${Channels} me=${me} tabs=${html`<${Tabs} at="channels" me=${me} />`} />`;
  return html`<${Now} me=${me} />`;
}

// --- words

function Standing({ shown }) {
  if (shown.silenced_until) return html`<span class="mark">Silent until ${clock(shown.silenced_until)}</span>`;
  if (shown.maintenance) return html`<span class="mark">Maintenance: ${shown.maintenance}</span>`;
  if (shown.acknowledged) return html`<span class="mark ok">Acknowledged by ${shown.acknowledged_by}</span>`;
  return html`<span class="mark warn">Nobody yet</span>`;
}

const Flapping = ({ alert }) => (alert.flapping ? html` <span class="mark warn">Comes and goes</span>` : "");
const BoxLink = ({ name }) => html`<a href=${`#box/${encodeURIComponent(name)}`}>${name}</a>`;
const lasted = (alert) => span(((alert.resolved || Date.now()) - alert.began) / 1000);

// --- what somebody does

/** Asks for what there is to say, and for how long if it is a silence. */
function Ask({ title, action, fors, onDone, onClose }) {
  const dialog = useRef();
  useEffect(() => dialog.current.showModal(), []);
  const submit = (event) => {
    event.preventDefault();
    const given = Object.fromEntries(new FormData(event.target));
    onDone({ comment: given.comment, ...(fors ? { minutes: Number(given.minutes) } : {}) });
  };
  return html`<dialog ref=${dialog} onClose=${onClose} aria-labelledby="asked">
    <form class="stack" onSubmit=${submit}>
      <h2 id="asked">${title}</h2>
      ${fors && html`<label>For<select name="minutes">${FORS.map(([minutes, text]) => html`<option value=${minutes}>${text}</option>`)}</select></label>`}
      <label>What there is to say<input name="comment" maxlength="1000" autocomplete="off" /></label>
      <div class="row"><button class="primary">${action}</button><button type="button" onClick=${() => dialog.current.close()}>Leave it</button></div>
    </form>
  </dialog>`;
}

/** Buttons that acknowledge or silence these alerts. */
function Actions({ list, what, me, onDone, onWrong }) {
  const [asking, setAsking] = useState("");
  if (me.role === "viewer") return "";
  const ids = list.map((shown) => shown.alert.id);
  const send = (path, body) => {
    setAsking("");
    api("POST", path, { ids, ...body }).then(onDone, (error) => onWrong(error.message));
  };
  const open = list.some((shown) => !shown.acknowledged);
  const silent = list.every((shown) => shown.silenced_until);
  return html`<div class="row tight">
    ${open && html`<button onClick=${() => setAsking("acknowledge")}>Acknowledge<span class="unseen"> ${what}</span></button>`}
    ${silent
      ? html`<button onClick=${() => send("/alerts/silence", { minutes: 0 })}>Tell again<span class="unseen"> ${what}</span></button>`
      : html`<button onClick=${() => setAsking("silence")}>Silence<span class="unseen"> ${what}</span></button>`}
    ${asking === "acknowledge" && html`<${Ask} title=${`Acknowledge: ${what}`} action="Acknowledge" onDone=${(body) => send("/alerts/acknowledge", body)} onClose=${() => setAsking("")} />`}
    ${asking === "silence" && html`<${Ask} title=${`Silence: ${what}`} action="Silence" fors=${true} onDone=${(body) => send("/alerts/silence", body)} onClose=${() => setAsking("")} />`}
  </div>`;
}

// --- now

const RANK = { error: 0, warning: 1, info: 2 };

const waits = (shown) => !shown.acknowledged && !shown.silenced_until && !shown.maintenance;

/** Alerts of one rule at one site are one row; what nobody cares for first, then the gravest, then the newest. */
function groups(shown) {
  const found = new Map();
  for (const one of shown) {
    const key = JSON.stringify([one.alert.rule, one.alert.site]);
    if (!found.has(key)) found.set(key, []);
    found.get(key).push(one);
  }
  const rank = (list) => Math.min(...list.map((one) => RANK[one.alert.severity]));
  const newest = (list) => Math.max(...list.map((one) => one.alert.fired));
  return [...found.entries()].sort(([, a], [, b]) => b.some(waits) - a.some(waits) || rank(a) - rank(b) || newest(b) - newest(a));
}

function Group({ list, me, onDone, onWrong }) {
  const first = list[0].alert;
  const boxes = new Set(list.map((one) => one.alert.device));
  const one = list.length === 1;
  const where = boxes.size === 1 ? first.device : `${boxes.size} boxes`;
  const what = `${first.title}: ${where}${first.site ? ` (${first.site})` : ""}`;
  const worst = [...list].sort((a, b) => RANK[a.alert.severity] - RANK[b.alert.severity])[0].alert.severity;
  const open = list.filter(waits).length;
  return html`<li class="alert">
    <div class="row between">
      <div class="grow">
        <h2><${Severity} of=${worst} /> ${first.title}${one ? html`<${Flapping} alert=${first} />` : ""}</h2>
        <p>${boxes.size === 1 ? html`<${BoxLink} name=${first.device} />` : html`<b>${where}</b>`}${first.site && ` · ${first.site}`}
          ${one && html` · <a href=${`#alert/${first.id}`}>${first.text || "details"}</a>`}</p>
        <p class="small soft">since ${clock(Math.min(...list.map((shown) => shown.alert.began)))}, ${lasted(first)}
          ${" "}${one || open === 0 ? html`<${Standing} shown=${list[0]} />` : html`<span class="mark warn">Nobody yet for ${open} of ${list.length}</span>`}</p>
      </div>
      <${Actions} list=${list} what=${what} me=${me} onDone=${onDone} onWrong=${onWrong} />
    </div>
    ${!one && html`<details><summary>${list.length} alerts<span class="unseen"> of ${what}</span></summary><${Table} list=${list} /></details>`}
  </li>`;
}

function Table({ list, over = false, box = false }) {
  return html`<table>
    <thead><tr>${!box && html`<th scope="col">Box</th>`}<th scope="col">What</th><th scope="col" class="wide">Severity</th><th scope="col">Since</th>
      <th scope="col" class=${over ? "wide" : ""}>${over ? "Lasted" : "Who cares"}</th></tr></thead>
    <tbody>${list.map((shown) => {
      const alert = shown.alert;
      return html`<tr key=${alert.id}>
        ${!box && html`<th scope="row"><${BoxLink} name=${alert.device} />${alert.site && html`<br /><span class="small soft">${alert.site}</span>`}</th>`}
        <td><a href=${`#alert/${alert.id}`}>${over || box ? alert.title : alert.text || alert.title}</a>
          ${(over || box) && alert.text && html`<br /><span class="small soft">${alert.text}</span>`}<${Flapping} alert=${alert} /></td>
        <td class="wide"><${Severity} of=${alert.severity} /></td>
        <td>${clock(alert.began)}</td>
        <td class=${over ? "wide" : ""}>${over ? lasted(alert) : html`<${Standing} shown=${shown} />`}</td></tr>`;
    })}</tbody>
  </table>`;
}

function Now({ me }) {
  const [wanted, setWanted] = useState({ severity: "", q: "", open: false });
  const [wrong, setWrong] = useState("");
  const [found, trouble, again] = useLoad(() => api("GET", `/alerts${query({ state: "firing", severity: wanted.severity, limit: MOST })}`), [wanted.severity]);
  useLive(ALERTS, again, [again]);
  useTick(10);
  const counts = found?.counts;
  const words = wanted.q.toLowerCase();
  const matches = ({ alert, acknowledged }) =>
    (!wanted.open || !acknowledged) && (!words || [alert.device, alert.site, alert.title, alert.text].some((text) => text.toLowerCase().includes(words)));
  const list = (found?.alerts || []).filter(matches);
  const tiles = counts && [
    ["Firing", counts.firing, { severity: "", open: false }],
    ["Errors", counts.error, { severity: "error", open: false }],
    ["Warnings", counts.warning, { severity: "warning", open: false }],
    ["Nobody on it", counts.open, { severity: "", open: true }],
  ];
  const chosen = (filter) => filter.severity === wanted.severity && filter.open === wanted.open;
  return html`<${Title} text="Alerts" /><${Tabs} at="" me=${me} /><${Trouble} text=${trouble || wrong} />
    ${tiles && html`<ul class="tiles">${tiles.map(
      ([text, count, filter]) => html`<li><button aria-pressed=${chosen(filter)} onClick=${() => setWanted({ ...wanted, ...filter })}><b>${count}</b>${text}</button></li>`,
    )}</ul>`}
    <section class="card" aria-label="Alerts that fire">
      <form class="row" role="search" onSubmit=${(event) => event.preventDefault()}>
        <label>Box, site or what<input type="search" value=${wanted.q} onInput=${(event) => setWanted({ ...wanted, q: event.target.value })} /></label>
      </form>
      ${found && !list.length && html`<p class="soft" style=${{ marginTop: "1rem" }}>${counts.firing ? "No alert matches." : "Nothing fires: all is well."}</p>`}
      ${found && counts.firing > MOST && html`<p class="note">The newest ${MOST} of ${counts.firing} alerts are shown.</p>`}
      <ul class="alerts">${groups(list).map(([key, members]) => html`<${Group} key=${key} list=${members} me=${me} onDone=${() => (setWrong(""), again())} onWrong=${setWrong} />`)}</ul>
    </section>`;
}

// --- what was

function History({ me }) {
  const [wanted, setWanted] = useState({ device: "", site: "", rule: "", severity: "" });
  const [limit, setLimit] = useState(100);
  const [found, trouble, again] = useLoad(() => api("GET", `/alerts${query({ ...wanted, limit })}`), [JSON.stringify(wanted), limit]);
  const [rules] = useLoad(() => (me.scope?.length ? Promise.resolve(null) : api("GET", "/alert-rules")), []);
  useLive(ALERTS, again, [again]);
  const set = (name) => (event) => setWanted({ ...wanted, [name]: event.target.value.trim() });
  return html`<${Title} text="History of alerts" /><${Tabs} at="history" me=${me} /><${Trouble} text=${trouble} />
    <section class="card" aria-label="All alerts">
      <form class="row" role="search" onSubmit=${(event) => event.preventDefault()}>
        <label>Box<input type="search" onChange=${set("device")} /></label>
        <label>Site<input type="search" onChange=${set("site")} /></label>
        ${!me.scope?.length && html`<label>Rule<select onChange=${set("rule")}><option value="">All</option>${(rules || []).map(({ rule }) => html`<option value=${rule.id}>${rule.title}</option>`)}</select></label>`}
        <label>Severity<select onChange=${set("severity")}><option value="">All</option><option value="error">Error</option><option value="warning">Warning</option></select></label>
      </form>
      ${found && (found.alerts.length ? html`<div style=${{ marginTop: "1rem" }}><${Table} list=${found.alerts} over=${true} /></div>` : html`<p class="soft">No alerts.</p>`)}
      ${found?.alerts.length === limit && limit < MOST && html`<button onClick=${() => setLimit(Math.min(MOST, limit + 300))}>More</button>`}
    </section>`;
}

// --- one

const DID = { acknowledged: "acknowledged it", silenced: "silenced it", "silence lifted": "lifted the silence", comment: "said" };

export function OneAlert({ id, me }) {
  const [found, trouble, again] = useLoad(() => api("GET", `/alerts/${encodeURIComponent(id)}`), [id]);
  const [wrong, setWrong] = useState("");
  useLive(ALERTS, again, [again]);
  useTick(10);
  if (!found) return html`<${Title} text="Alert" /><${Trouble} text=${trouble} />`;
  const { alert } = found.alert;
  const done = () => (setWrong(""), again());
  const say = (event) => {
    event.preventDefault();
    const form = event.target;
    api("POST", `/alerts/${alert.id}/comments`, { text: new FormData(form).get("text") }).then(() => (form.reset(), done()), (error) => setWrong(error.message));
  };
  const steps = [
    [alert.began, "", "it began"],
    [alert.fired, "", "it became an alert"],
    ...found.notes.map((note) => [note.ts, note.author, `${DID[note.action] || note.action}${note.text ? `: ${note.text}` : ""}`]),
    ...(alert.told_at ? [[alert.told_at, "", alert.told === "resolved" ? "people were told that it is over" : "people were told last"]] : []),
    ...(alert.resolved ? [[alert.resolved, "", "it was over"]] : []),
  ].sort(([a], [b]) => a - b);
  return html`<${Title} text=${alert.title} /><${Tabs} me=${me} /><${Trouble} text=${trouble || wrong} />
    <section class="card" aria-label="The alert">
      <div class="row between"><div class="grow">
        <p><${Severity} of=${alert.severity} /> ${alert.resolved ? html`<span class="mark ok">Over</span>` : html`<${Standing} shown=${found.alert} />`}<${Flapping} alert=${alert} /></p>
        <p style=${{ marginTop: "0.5rem" }}><${BoxLink} name=${alert.device} />${alert.site && ` · ${alert.site}`} · ${alert.text}</p>
        <p class="small soft">since ${clock(alert.began)}, ${lasted(alert)}</p></div>
        ${!alert.resolved && html`<${Actions} list=${[found.alert]} what=${`${alert.title}: ${alert.device}`} me=${me} onDone=${done} onWrong=${setWrong} />`}</div>
    </section>
    <section class="card"><h2>What happened</h2>
      <ol class="plain">${steps.map(([ts, who, text]) => html`<li><span class="soft small">${clock(ts)}</span> ${who && html`<b>${who}</b> `}${text}</li>`)}</ol>
      ${me.role !== "viewer" && html`<form class="row" style=${{ marginTop: "1rem" }} onSubmit=${say}>
        <label class="grow">What there is to say<input name="text" required maxlength="1000" autocomplete="off" /></label><button>Say it</button></form>`}
    </section>
    ${found.earlier.length > 0 && html`<section class="card"><h2>Earlier alerts of the same</h2><${Table} list=${found.earlier} over=${true} /></section>`}`;
}

/** On a box's page: what fires there. */
export function BoxAlerts({ name }) {
  const [found, , again] = useLoad(() => api("GET", `/alerts${query({ state: "firing", device: name, limit: 50 })}`), [name]);
  useLive(ALERTS, again, [again]);
  if (!found?.alerts.length) return "";
  return html`<section class="card"><h2>Alerts</h2><${Table} list=${found.alerts} box=${true} /></section>`;
}

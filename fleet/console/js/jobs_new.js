// A new rollout in three steps: what, which boxes, how.
import { useEffect, useRef, useState } from "../vendor/hooks.js";
import { api, html, Title, Trouble, useLoad } from "./lib.js";
import { Field, read } from "./commands.js";
import { taskText } from "./jobs.js";
import { Selection, selectionText } from "./selection.js";
import { Chosen, Setting } from "./settings.js";

const STEPS = ["What", "Which boxes", "How"];
const FIRST = { size: 5, unit: "percent", success: 100, stop: 20, rest_s: 3600, approve: true };
const REST = { size: 100, unit: "percent", success: 90, stop: 20, rest_s: 0, approve: false };
const EMPTY = {
  title: "",
  task: { command: "ping", args: {}, settings: {} },
  selection: {},
  dynamic: false,
  plan: { phases: [FIRST, { ...REST, size: 30 }, REST], at_once: 50, reach_s: 7 * 86400, answer_s: 900 },
  window: null,
  zone: Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC",
  jitter_s: 0,
};

function What({ spec, me, catalogue, onNext }) {
  const settingsToo = me.role === "admin";
  const may = catalogue.commands.filter((one) => me.role === "admin" || one.role === me.role);
  const [kind, setKind] = useState(settingsToo && Object.keys(spec.task.settings).length ? "settings" : "command");
  const [command, setCommand] = useState(spec.task.command || may[0].name);
  const [settings, setSettings] = useState(spec.task.settings);
  const [trouble, setTrouble] = useState("");
  const schemas = catalogue.commands.find((one) => one.name === command).arguments;
  const next = (event) => {
    event.preventDefault();
    const title = new FormData(event.target).get("title").trim();
    if (kind === "settings" && !Object.keys(settings).length) return setTrouble("Choose at least one setting.");
    onNext({ title, task: kind === "settings" ? { command: "", args: {}, settings } : { command, args: read(event.target, schemas), settings: {} } });
  };
  const filled = Object.fromEntries(Object.entries(schemas).map(([name, schema]) => [name, { ...schema, default: spec.task.args[name] ?? schema.default }]));
  return html`<form class="card stack" onSubmit=${next}>
    <label>Title<input name="title" required maxlength="100" autocomplete="off" defaultValue=${spec.title} /></label>
    ${settingsToo && html`<fieldset><legend>What each box gets</legend><div class="row">
      ${[["command", "A command"], ["settings", "Settings of its own"]].map(
        ([one, text]) => html`<label key=${one} class="check"><input type="radio" name="kind" checked=${kind === one} onChange=${() => setKind(one)} />${text}</label>`,
      )}</div></fieldset>`}
    ${kind === "command"
      ? html`<div class="row">
          <label>Command<select value=${command} onChange=${(event) => setCommand(event.target.value)}>${may.map(
            (one) => html`<option key=${one.name} value=${one.name} selected=${one.name === command}>${one.title}</option>`,
          )}</select></label>
          ${Object.entries(filled).map(([name, schema]) => html`<${Field} key=${`${command}.${name}`} name=${name} schema=${schema} optional=${schemas[name].default !== undefined} />`)}
        </div>`
      : html`<${Chosen} settings=${settings} catalogue=${catalogue} onChange=${setSettings} />
          <${Setting} catalogue=${catalogue} me=${me} action="Add" back=${true} onSet=${(name, value) => setSettings({ ...settings, [name]: value })} />`}
    <${Trouble} text=${trouble} />
    <div class="row"><button class="primary">Next: which boxes</button></div>
  </form>`;
}

function Preview({ spec, onFound }) {
  const [found, trouble] = useLoad(() => api("POST", "/jobs/preview", { selection: spec.selection, plan: spec.plan }), [JSON.stringify([spec.selection, spec.plan])]);
  useEffect(() => onFound?.(found), [found]);
  if (!found) return html`<${Trouble} text=${trouble} />`;
  const names = found.names.slice(0, 5).join(", ");
  return html`<p role="status"><strong>${found.count === 1 ? "1 box" : `${found.count} boxes`}</strong>${found.count > 0 && html` <span class="soft small">${names}${found.count > 5 ? " …" : ""}</span>`}</p>`;
}

function Which({ spec, facets, onChange, onNext, onBack }) {
  return html`<form class="card stack" onSubmit=${(event) => (event.preventDefault(), onNext({}))}>
    <${Selection} wanted=${spec.selection} facets=${facets} onChange=${(selection) => onChange({ selection })} />
    <label class="check"><input type="checkbox" checked=${spec.dynamic} onChange=${(event) => onChange({ dynamic: event.target.checked })} />Also boxes that come to match while it runs, and no longer those that cease to</label>
    <${Preview} spec=${spec} />
    <div class="row"><button class="primary">Next: how</button><button type="button" onClick=${onBack}>Back</button></div>
  </form>`;
}

const Number_ = ({ label, value, onChange, ...limits }) =>
  html`<label>${label}<input class="short" type="number" required value=${value} onInput=${(event) => event.target.value !== "" && onChange(Number(event.target.value))} ...${limits} /></label>`;

function PhaseFields({ phase, number, last, size, onChange, onRemove }) {
  const set = (what) => onChange({ ...phase, ...what });
  return html`<fieldset class="stack"><legend>Phase ${number + 1}${size === undefined ? "" : ` (${size === 1 ? "1 box" : `${size} boxes`})`}</legend>
    <div class="row">
      ${last
        ? html`<p class="soft" style=${{ alignSelf: "center" }}>All the rest.</p>`
        : html`<${Number_} label="Size" value=${phase.size} min="1" max=${phase.unit === "percent" ? 100 : 1000000} step="any" onChange=${(value) => set({ size: value })} />
          <label>of<select value=${phase.unit} onChange=${(event) => set({ unit: event.target.value })}>
            <option value="percent" selected=${phase.unit === "percent"}>percent</option><option value="boxes" selected=${phase.unit === "boxes"}>boxes</option></select></label>`}
      <${Number_} label="Met with % done" value=${phase.success} min="1" max="100" step="any" onChange=${(value) => set({ success: value })} />
      <${Number_} label="Stop at % failed" value=${phase.stop} min="0" max="100" step="any" onChange=${(value) => set({ stop: value })} />
      ${!last && html`<${Number_} label="Then rest (minutes)" value=${phase.rest_s / 60} min="0" max="43200" step="any" onChange=${(value) => set({ rest_s: Math.round(value * 60) })} />
        <label class="check"><input type="checkbox" checked=${phase.approve} onChange=${(event) => set({ approve: event.target.checked })} />Ask before the next</label>
        <button type="button" onClick=${onRemove}>Remove<span class="unseen"> phase ${number + 1}</span></button>`}
    </div></fieldset>`;
}

function How({ spec, onChange, onSave, onBack }) {
  const [found, setFound] = useState(null);
  const [trouble, setTrouble] = useState("");
  const { plan } = spec;
  const set = (what) => onChange({ plan: { ...plan, ...what } });
  const phases = (rows) => set({ phases: rows });
  const save = (event) => {
    event.preventDefault();
    setTrouble("");
    if (plan.reach_s < spec.jitter_s)
      return setTrouble(`"Reach a box within" is shorter than "Spread over": boxes would be missed before their turn. Give at least ${Math.ceil(spec.jitter_s / 36) / 100} hours, or spread over less.`);
    onSave(event.submitter?.value === "start").catch((error) => setTrouble(error.message));
  };
  return html`<form class="card stack" onSubmit=${save}>
    ${plan.phases.map((phase, number) => html`<${PhaseFields} key=${number} phase=${phase} number=${number} last=${number === plan.phases.length - 1} size=${found?.phases[number]}
      onChange=${(changed) => phases(plan.phases.map((one, index) => (index === number ? changed : one)))} onRemove=${() => phases(plan.phases.filter((_, index) => index !== number))} />`)}
    <div class="row"><button type="button" disabled=${plan.phases.length >= 20} onClick=${() => phases([...plan.phases.slice(0, -1), { ...FIRST, size: 20 }, plan.phases.at(-1)])}>Add a phase</button></div>
    <div class="row">
      <${Number_} label="Boxes at once" value=${plan.at_once} min="1" max="100000" onChange=${(value) => set({ at_once: value })} />
      <${Number_} label="Reach a box within (hours)" value=${plan.reach_s / 3600} min="0.1" max="720" step="any" onChange=${(value) => set({ reach_s: Math.round(value * 3600) })} />
      <${Number_} label="Answer within (minutes)" value=${plan.answer_s / 60} min="0.5" max="10080" step="any" onChange=${(value) => set({ answer_s: Math.round(value * 60) })} />
      <${Number_} label="Spread over (minutes)" value=${spec.jitter_s / 60} min="0" max="1440" step="any" onChange=${(value) => onChange({ jitter_s: Math.round(value * 60) })} />
    </div>
    <fieldset class="stack"><legend>When</legend>
      <label class="check"><input type="checkbox" checked=${Boolean(spec.window)} onChange=${(event) => onChange({ window: event.target.checked ? { begin: "02:00", end: "05:00" } : null })} />Only in a maintenance window, by each box's own clock</label>
      ${spec.window && html`<div class="row">
        <label>From<input type="time" required value=${spec.window.begin} onInput=${(event) => onChange({ window: { ...spec.window, begin: event.target.value } })} /></label>
        <label>To<input type="time" required value=${spec.window.end} onInput=${(event) => onChange({ window: { ...spec.window, end: event.target.value } })} /></label>
        <label>Zone of boxes that tell none<input required value=${spec.zone} autocomplete="off" onInput=${(event) => onChange({ zone: event.target.value.trim() })} /></label></div>
        <p class="small soft">A box that tells a window of its own (its attribute maintenance) goes by that.</p>`}
    </fieldset>
    <${Preview} spec=${spec} onFound=${setFound} />
    <${Trouble} text=${trouble} />
    <div class="row"><button class="primary" value="start">Start it now</button><button value="draft">Keep as a draft</button><button type="button" onClick=${onBack}>Back</button></div>
  </form>`;
}

export function NewJob({ from, me, catalogue }) {
  const [spec, setSpec] = useState(from ? null : EMPTY);
  const [step, setStep] = useState(0);
  const [trouble, setTrouble] = useState("");
  const [boxes] = useLoad(() => api("GET", "/devices?limit=1"), []);
  const made = useRef({});
  useEffect(() => {
    if (from) api("GET", `/jobs/${encodeURIComponent(from)}`).then((job) => setSpec({ ...EMPTY, ...job.spec, title: `${job.spec.title} again`.slice(0, 100) }), (error) => setTrouble(error.message));
  }, [from]);
  const change = (what) => setSpec((old) => ({ ...old, ...what }));
  const go = (number) => {
    setStep(number);
    document.querySelector("h1").focus();
  };
  const save = async (start) => {
    // What was kept but could not be started is not made twice; what was changed since is another.
    const text = JSON.stringify(spec);
    if (made.current.text !== text) made.current = { text, id: (await api("POST", "/jobs", spec)).id };
    const { id } = made.current;
    if (start) await api("POST", `/jobs/${id}`, { do: "start" });
    location.hash = `#jobs/${id}`;
  };
  const rest = { spec, me, catalogue };
  return html`
    <p class="small"><a href="#jobs">Rollouts</a></p>
    <${Title} text="New rollout" />
    <${Trouble} text=${trouble} />
    ${spec && html`
      <ol class="steps">${STEPS.map((text, number) => html`<li key=${text} aria-current=${number === step ? "step" : null}>${number + 1}. ${text}${
        number < step ? html` <span class="small">${number === 0 ? taskText(spec.task, catalogue) : selectionText(spec.selection)}</span>` : ""
      }</li>`)}</ol>
      ${step === 0 && html`<${What} ...${rest} onNext=${(what) => (change(what), go(1))} />`}
      ${step === 1 && html`<${Which} ...${rest} facets=${boxes?.facets} onChange=${change} onNext=${() => go(2)} onBack=${() => go(0)} />`}
      ${step === 2 && html`<${How} ...${rest} onChange=${change} onSave=${save} onBack=${() => go(1)} />`}`}`;
}

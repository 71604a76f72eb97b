// Rules of alerts: a list in words, and a form that makes one.
import { useState } from "../vendor/hooks.js";
import { api, clock, html, Severity, show, span, Sure, Title, Trouble, useLive, useLoad } from "./lib.js";
import { Entry, ScopeFields, scopeOf, scopeText, slug } from "./scope.js";

const KINDS = { missing: "A box is missing", threshold: "A metric is past a limit", stale: "A metric is not told", events: "Events happen", change: "A metric changes" };
const OWN = { box_lost: "the connection was lost", box_silent: "nothing was heard for too long", box_offline: "the box was switched off", box_online: "the box is online" };
const STATES = { lost: "lost", silent: "silent", offline: "switched off" };

const titleOf = (catalogue, name) => {
  const [base, part] = name.split(".");
  const metric = catalogue.metrics.find((one) => one.name === base);
  const which = part ? `, ${part.replaceAll("_", " ")}` : metric && metric.per !== "box" ? `, any ${metric.per}` : "";
  return (metric ? metric.title : name) + which;
};
const valueOf = (catalogue, name, value) => show(catalogue.metrics.find((one) => one.name === name.split(".")[0]) || {}, value);

/** What a rule watches, in words. */
export function sentence(rule, catalogue) {
  const when = rule.when;
  const time = rule.for_s ? ` for ${span(rule.for_s)}` : "";
  if (when.kind === "missing") return `The box is ${when.states.map((state) => STATES[state]).join(" or ")}${time}`;
  if (when.kind === "stale") return `${titleOf(catalogue, when.metric)} is not told${time}, though the box is online`;
  if (when.kind === "events") {
    const what = when.codes.map((code) => catalogue.events.find((one) => one.code === code)?.title || OWN[code] || code).join(", or ");
    return `${when.more_than ? `More than ${when.more_than} × ` : ""}${what}, in ${span(when.within_s)}`;
  }
  const title = when.metric === "*" ? "Any metric" : titleOf(catalogue, when.metric);
  if (when.kind === "change") return `${title} ${when.falling ? "falls" : "rises"}${when.more_than ? ` by more than ${valueOf(catalogue, when.metric, when.more_than)}` : ""} in ${span(when.within_s)}`;
  if (when.equals.length) return `${title}: ${when.equals.map((value) => show({}, value)).join(" or ")}${time}`;
  if (when.level) return `${title} is past the catalogue's limit to ${when.level === "bad" ? "act" : "look"}${time}`;
  return when.above !== null ? `${title} is at ${valueOf(catalogue, when.metric, when.above)} or more${time}` : `${title} is at ${valueOf(catalogue, when.metric, when.below)} or less${time}`;
}

const EMPTY = {
  id: "", title: "", severity: "warning", scope: { sites: [], models: [], releases: [], names: [] }, for_s: 300, clear_s: 60, flaps: 5, flap_s: 3600, remind_s: 0, enabled: true,
  when: { kind: "threshold", metric: "temperature", level: "", above: 80, below: null, equals: [], clear: null },
};

const Number_ = ({ name, text, value, ...more }) => html`<label>${text}<input name=${name} type="number" defaultValue=${value} required autocomplete="off" ...${more} /></label>`;
const Choice = ({ name, text, value, options, ...more }) => html`<label>${text}<select name=${name} ...${more}>${options.map(([key, word]) => html`<option value=${key} selected=${key === value}>${word}</option>`)}</select></label>`;

function Metric({ catalogue, value, all, name = "metric" }) {
  const rows = catalogue.metrics.map((one) => [one.name, one.title]);
  const base = value?.split(".")[0];
  return html`<${Choice} name=${name} text="Metric" value=${base} options=${all ? [["*", "All with a limit in the catalogue"], ...rows] : rows} />
    <label>Only of this node or stage<input name="part" defaultValue=${value?.split(".")[1] || ""} autocomplete="off" autocapitalize="none" /></label>`;
}

function Compared({ when, catalogue }) {
  const now = when.equals?.length ? "equals" : when.level || (when.below !== null && when.below !== undefined ? "below" : "above");
  const [how, setHow] = useState(now);
  return html`<${Metric} catalogue=${catalogue} value=${when.metric || "temperature"} all=${true} />
    <${Choice} name="how" text="Is" value=${how} onChange=${(event) => setHow(event.target.value)}
      options=${[["bad", "past the catalogue's limit to act"], ["warn", "past the catalogue's limit to look"], ["above", "at this or more"], ["below", "at this or less"], ["equals", "one of these"]]} />
    ${(how === "above" || how === "below") && html`<${Number_} name="limit" text="Limit, in the metric's own unit" value=${when[how] ?? ""} step="any" />
      <label>Over again at (empty: 5 % back)<input name="clear" type="number" step="any" defaultValue=${when.clear ?? ""} autocomplete="off" /></label>`}
    ${how === "equals" && html`<label>Values: yes, no, or names<input name="equals" required defaultValue=${(when.equals || []).map((value) => show({}, value)).join(", ")} autocomplete="off" /></label>`}`;
}

function WhenFields({ kind, when, catalogue }) {
  if (kind === "missing") {
    return html`<fieldset class="row"><legend>It is</legend>${Object.entries(STATES).map(
      ([state, text]) => html`<label class="check"><input type="checkbox" name="states" value=${state} defaultChecked=${(when.states || ["lost", "silent"]).includes(state)} />${text}</label>`,
    )}</fieldset>`;
  }
  if (kind === "stale") return html`<${Metric} catalogue=${catalogue} value=${when.metric || "temperature"} />`;
  if (kind === "threshold") return html`<${Compared} when=${when} catalogue=${catalogue} />`;
  const within = html`<${Number_} name="within" text="Within, minutes" value=${(when.within_s || 3600) / 60} min="1" max=${7 * 1440} />`;
  if (kind === "events") {
    const codes = [...catalogue.events.map((one) => [one.code, one.title]), ...Object.entries(OWN)];
    return html`<label class="whole">Events<select name="codes" multiple required size="6">${codes.map(([code, text]) => html`<option value=${code} selected=${(when.codes || []).includes(code)}>${text}</option>`)}</select></label>
      <${Number_} name="more_than" text="More than" value=${when.more_than ?? 0} min="0" />${within}`;
  }
  return html`<${Metric} catalogue=${catalogue} value=${when.metric || "disk_free"} />
    <${Choice} name="falling" text="It" value=${when.falling ? "yes" : ""} options=${[["", "rises"], ["yes", "falls"]]} />
    <${Number_} name="more_than" text="By more than, in its own unit" value=${when.more_than ?? 0} min="0" step="any" />${within}`;
}

function whenOf(kind, form) {
  const text = (name) => form.get(name)?.trim() || "";
  const metric = text("part") && text("metric") !== "*" ? `${text("metric")}.${text("part")}` : text("metric");
  if (kind === "missing") return { kind, states: form.getAll("states") };
  if (kind === "stale") return { kind, metric };
  if (kind === "events") return { kind, codes: form.getAll("codes"), more_than: Number(text("more_than")), within_s: Number(text("within")) * 60 };
  if (kind === "change") return { kind, metric, falling: text("falling") === "yes", more_than: Number(text("more_than")), within_s: Number(text("within")) * 60 };
  const how = text("how");
  if (how === "bad" || how === "warn") return { kind, metric, level: how };
  if (how === "equals") {
    const values = text("equals").split(",").map((value) => value.trim()).filter(Boolean);
    return { kind, metric, equals: values.map((value) => ({ yes: true, no: false })[value] ?? value.replaceAll(" ", "_")) };
  }
  return { kind, metric, [how]: Number(text("limit")), ...(text("clear") ? { clear: Number(text("clear")) } : {}) };
}

function Editor({ rule, known, catalogue, onDone, onClose }) {
  const [kind, setKind] = useState(rule.when.kind);
  const [wrong, setWrong] = useState("");
  const submit = (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    const minutes = (name) => Math.round(Number(form.get(name)) * 60);
    const title = form.get("title").trim();
    const made = {
      ...rule, id: rule.id || slug(title, known), title, severity: form.get("severity"), when: whenOf(kind, form), scope: scopeOf(form),
      for_s: minutes("for"), clear_s: minutes("clear_after"), flaps: Number(form.get("flaps")), flap_s: minutes("flap_within"), remind_s: minutes("remind") * 60,
    };
    api("PUT", `/alert-rules/${made.id}`, made).then(onDone, (error) => setWrong(error.message));
  };
  return html`<section class="card" aria-label=${rule.id ? `Change ${rule.title}` : "A new rule"}>
    <h2>${rule.id ? "Change a rule" : "A new rule"}</h2>
    <form class="stack" onSubmit=${submit}>
      <div class="row"><label class="grow">Name<input name="title" required maxlength="100" defaultValue=${rule.title} autocomplete="off" /></label>
        <${Choice} name="severity" text="Severity" value=${rule.severity} options=${[["warning", "Warning"], ["error", "Error"]]} />
        <${Choice} name="kind" text="What" value=${kind} onChange=${(event) => setKind(event.target.value)} options=${Object.entries(KINDS)} /></div>
      <div class="row"><${WhenFields} key=${kind} kind=${kind} when=${kind === rule.when.kind ? rule.when : {}} catalogue=${catalogue} /></div>
      <div class="row"><${Number_} name="for" text="For, minutes" value=${rule.for_s / 60} min="0" step="any" />
        <${Number_} name="clear_after" text="Over when well for, minutes" value=${rule.clear_s / 60} min="0" step="any" />
        <${Number_} name="remind" text="Again if nobody cares, hours (0: never)" value=${rule.remind_s / 3600} min="0" step="any" /></div>
      <div class="row"><${Number_} name="flaps" text="One alert if it comes so often (0: off)" value=${rule.flaps} min="0" max="100" />
        <${Number_} name="flap_within" text="Within, minutes" value=${rule.flap_s / 60} min="1" step="any" /></div>
      <${ScopeFields} scope=${rule.scope} />
      <${Trouble} text=${wrong} />
      <div class="row"><button class="primary">${rule.id ? "Change it" : "Make it"}</button><button type="button" onClick=${onClose}>Leave it</button></div>
    </form>
  </section>`;
}

export function Rules({ me, catalogue, tabs }) {
  const [filed, trouble, again] = useLoad(() => api("GET", "/alert-rules"), []);
  const [editing, setEditing] = useState(null);
  const [deleting, setDeleting] = useState(null);
  const [wrong, setWrong] = useState("");
  useLive((name) => name === "/alerts", again, [again]);
  const admin = me.role === "admin";
  const act = (work) => work.then(() => (setWrong(""), setEditing(null), setDeleting(null), again()), (error) => (setDeleting(null), setWrong(error.message)));
  const put = (rule) => act(api("PUT", `/alert-rules/${rule.id}`, rule));
  return html`<div class="row between"><${Title} text="Rules of alerts" />
      ${admin && html`<button class="primary" onClick=${() => setEditing(EMPTY)}>A new rule</button>`}</div>
    ${tabs}<${Trouble} text=${trouble || wrong} />
    ${editing && html`<${Editor} key=${editing.id} rule=${editing} known=${filed.map(({ rule }) => rule.id)} catalogue=${catalogue} onDone=${() => act(Promise.resolve())} onClose=${() => setEditing(null)} />`}
    ${deleting && html`<${Sure} text=${`Delete the rule ${deleting.title}? Its alerts are over then.`} action="Delete it" onYes=${() => act(api("DELETE", `/alert-rules/${deleting.id}`))} onNo=${() => setDeleting(null)} />`}
    <section class="card" aria-label="All rules"><ul class="alerts">${(filed || []).map(({ rule, author, changed, firing }) => {
      const actions = admin && html`<button onClick=${() => (setEditing(rule), scrollTo(0, 0))}>Change<span class="unseen"> ${rule.title}</span></button>
        <button onClick=${() => put({ ...rule, enabled: !rule.enabled })}>${rule.enabled ? "Turn off" : "Turn on"}<span class="unseen"> ${rule.title}</span></button>
        <button class="danger" onClick=${() => setDeleting(rule)}>Delete<span class="unseen"> ${rule.title}</span></button>`;
      return html`<${Entry} key=${rule.id} actions=${actions}>
        <h2><${Severity} of=${rule.severity} /> ${rule.title}${rule.enabled ? "" : html` <span class="mark">Off</span>`}${firing > 0 && html` <a class="mark bad" href="#alerts">${firing} firing</a>`}</h2>
        <p>${sentence(rule, catalogue)}</p>
        <p class="small soft">Boxes: ${scopeText(rule.scope)}${author === "visavis" ? "" : `; changed by ${author}, ${clock(changed)}`}</p><//>`;
    })}</ul></section>`;
}

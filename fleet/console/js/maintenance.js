// Maintenance: times in which alerts are kept but not told.
import { useState } from "../vendor/hooks.js";
import { api, clock, html, Sure, Title, Trouble, useLive, useLoad } from "./lib.js";
import { Entry, ScopeFields, scopeOf, scopeText, slug } from "./scope.js";

const DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const EMPTY = { id: "", title: "", scope: { sites: [], models: [], releases: [], names: [] }, since: 0, until: 0, again: null, zone: Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC" };

function when(one) {
  const once = [one.since ? `from ${clock(one.since)}` : "", one.until ? `until ${clock(one.until)}` : ""].filter(Boolean).join(" ");
  if (!one.again) return once;
  const days = one.again.days.length && one.again.days.length < 7 ? one.again.days.map((day) => DAYS[day]).join(", ") : "Every day";
  return `${days}, ${one.again.begin} to ${one.again.end} (${one.zone})${once ? `, ${once}` : ""}`;
}

const local = (ts) => (ts ? new Date(ts - new Date(ts).getTimezoneOffset() * 60000).toISOString().slice(0, 16) : "");

function Editor({ one, known, onDone, onClose }) {
  const [kind, setKind] = useState(one.again ? "again" : "once");
  const [wrong, setWrong] = useState("");
  const submit = (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    const title = form.get("title").trim();
    const moment = (name) => (form.get(name) ? new Date(form.get(name)).getTime() : 0);
    const again = kind === "again" ? { days: form.getAll("days").map(Number), begin: form.get("begin"), end: form.get("end") } : null;
    const made = { id: one.id || slug(title, known), title, scope: scopeOf(form), since: moment("since"), until: moment("until"), again, zone: form.get("zone") || one.zone };
    api("PUT", `/alert-windows/${made.id}`, made).then(onDone, (error) => setWrong(error.message));
  };
  return html`<section class="card" aria-label=${one.id ? `Change ${one.title}` : "New maintenance"}>
    <h2>${one.id ? "Change maintenance" : "New maintenance"}</h2>
    <form class="stack" onSubmit=${submit}>
      <div class="row"><label class="grow">Name<input name="title" required maxlength="100" defaultValue=${one.title} autocomplete="off" /></label>
        <label>When<select name="kind" onChange=${(event) => setKind(event.target.value)}><option value="once" selected=${kind === "once"}>Once</option><option value="again" selected=${kind === "again"}>Again and again</option></select></label></div>
      ${kind === "again" && html`<fieldset class="row"><legend>Days on which it begins (none: every day)</legend>${DAYS.map(
        (day, n) => html`<label class="check"><input type="checkbox" name="days" value=${n} defaultChecked=${one.again?.days.includes(n)} />${day}</label>`,
      )}</fieldset>
      <div class="row"><label>From<input name="begin" type="time" required defaultValue=${one.again?.begin || "02:00"} /></label>
        <label>To<input name="end" type="time" required defaultValue=${one.again?.end || "05:00"} /></label>
        <label>Time zone<input name="zone" required defaultValue=${one.zone} autocomplete="off" /></label></div>`}
      <div class="row"><label>${kind === "again" ? "Not before (may be empty)" : "From (empty: now)"}<input name="since" type="datetime-local" defaultValue=${local(one.since)} /></label>
        <label>${kind === "again" ? "Not after (may be empty)" : "Until"}<input name="until" type="datetime-local" required=${kind === "once"} defaultValue=${local(one.until)} /></label></div>
      <${ScopeFields} scope=${one.scope} />
      <${Trouble} text=${wrong} />
      <div class="row"><button class="primary">${one.id ? "Change it" : "Make it"}</button><button type="button" onClick=${onClose}>Leave it</button></div>
    </form>
  </section>`;
}

export function Maintenance({ me, tabs }) {
  const [windows, trouble, again] = useLoad(() => api("GET", "/alert-windows"), []);
  const [editing, setEditing] = useState(null);
  const [deleting, setDeleting] = useState(null);
  const [wrong, setWrong] = useState("");
  useLive((name) => name === "/alerts", again, [again]);
  const admin = me.role === "admin";
  const act = (work) => work.then(() => (setWrong(""), setEditing(null), setDeleting(null), again()), (error) => (setDeleting(null), setWrong(error.message)));
  return html`<div class="row between"><${Title} text="Maintenance" />
      ${admin && html`<button class="primary" onClick=${() => setEditing(EMPTY)}>New maintenance</button>`}</div>
    ${tabs}<${Trouble} text=${trouble || wrong} />
    ${editing && html`<${Editor} key=${editing.id} one=${editing} known=${windows.map((one) => one.id)} onDone=${() => act(Promise.resolve())} onClose=${() => setEditing(null)} />`}
    ${deleting && html`<${Sure} text=${`Delete the maintenance ${deleting.title}?`} action="Delete it" onYes=${() => act(api("DELETE", `/alert-windows/${deleting.id}`))} onNo=${() => setDeleting(null)} />`}
    <section class="card" aria-label="All maintenance">
      <p class="soft">Alerts of these times are kept and shown, but nobody is told; what is still so when the time ends is told then.</p>
      ${windows && !windows.length && html`<p class="soft" style=${{ marginTop: "1rem" }}>There is none.</p>`}
      <ul class="alerts">${(windows || []).map((one) => {
        const actions = admin && html`<button onClick=${() => (setEditing(one), scrollTo(0, 0))}>Change<span class="unseen"> ${one.title}</span></button>
          <button class="danger" onClick=${() => setDeleting(one)}>Delete<span class="unseen"> ${one.title}</span></button>`;
        return html`<${Entry} key=${one.id} actions=${actions}><h2>${one.title}</h2><p>${when(one)}</p><p class="small soft">Boxes: ${scopeText(one.scope)}</p><//>`;
      })}</ul>
    </section>`;
}

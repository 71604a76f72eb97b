// Who is told of alerts: webhooks and mail, without their secrets.
import { useState } from "../vendor/hooks.js";
import { ago, api, html, Sure, Title, Trouble, useLive, useLoad } from "./lib.js";
import { Entry, ScopeFields, scopeOf, scopeText, slug } from "./scope.js";

const NOWHERE = { sites: [], models: [], releases: [], names: [] };
const EMPTY = { id: "", title: "", severity: "warning", scope: NOWHERE, enabled: true, to: { kind: "webhook", url: "" } };

const where = (to) => (to.kind === "webhook" ? to.url : `${to.to.join(", ")} by ${to.host}`);

function MailFields({ to }) {
  const text = (name, label, value, more = {}) => html`<label class="grow">${label}<input name=${name} defaultValue=${value} autocomplete="off" ...${more} /></label>`;
  return html`<label>To, one in each line<textarea name="to" rows="2" required defaultValue=${(to.to || []).join("\n")}></textarea></label>
    <div class="row">${text("sender", "From", to.sender || "", { required: true, type: "email" })}${text("host", "Mail server", to.host || "", { required: true })}
      ${text("port", "Port", to.port || 587, { required: true, type: "number", min: 1, max: 65535 })}
      <label>Protection<select name="security">${[["starttls", "STARTTLS"], ["tls", "TLS"], ["none", "None"]].map(([key, word]) => html`<option value=${key} selected=${key === (to.security || "starttls")}>${word}</option>`)}</select></label></div>
    <div class="row">${text("user", "User (empty: none)", to.user || "")}${text("password_file", "Password file, in the folder secrets of the controller", to.password_file || "", { pattern: "[A-Za-z0-9_\\-][A-Za-z0-9._\\-]*" })}</div>`;
}

function toOf(kind, form) {
  if (kind === "webhook") return { kind, url: form.get("url").trim() };
  const text = (name) => form.get(name).trim();
  const to = text("to").split("\n").map((line) => line.trim()).filter(Boolean);
  return { kind, to, sender: text("sender"), host: text("host"), port: Number(text("port")), security: text("security"), user: text("user"), password_file: text("password_file") };
}

function Editor({ one, known, onDone, onClose }) {
  const [kind, setKind] = useState(one.to.kind);
  const [wrong, setWrong] = useState("");
  const submit = (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    const title = form.get("title").trim();
    const made = { ...one, id: one.id || slug(title, known), title, severity: form.get("severity"), scope: scopeOf(form), to: toOf(kind, form) };
    api("PUT", `/alert-channels/${made.id}`, made).then((found) => onDone(title, found.secret), (error) => setWrong(error.message));
  };
  const to = kind === one.to.kind ? one.to : {};
  return html`<section class="card" aria-label=${one.id ? `Change ${one.title}` : "Tell somebody new"}>
    <h2>${one.id ? "Change who is told" : "Tell somebody new"}</h2>
    <form class="stack" onSubmit=${submit}>
      <div class="row"><label class="grow">Name<input name="title" required maxlength="100" defaultValue=${one.title} autocomplete="off" /></label>
        <label>By<select name="kind" onChange=${(event) => setKind(event.target.value)}><option value="webhook" selected=${kind === "webhook"}>Webhook</option><option value="mail" selected=${kind === "mail"}>Mail</option></select></label>
        <label>Of<select name="severity"><option value="warning" selected=${one.severity !== "error"}>Warnings and errors</option><option value="error" selected=${one.severity === "error"}>Errors only</option></select></label></div>
      ${kind === "webhook" ? html`<label>Address<input name="url" required maxlength="500" placeholder="https://" defaultValue=${to.url || ""} autocomplete="off" /></label>` : html`<${MailFields} to=${to} />`}
      <${ScopeFields} scope=${one.scope} />
      <${Trouble} text=${wrong} />
      <div class="row"><button class="primary">${one.id ? "Change it" : "Make it"}</button><button type="button" onClick=${onClose}>Leave it</button></div>
    </form>
  </section>`;
}

function Standing({ posted }) {
  if (!posted.channel.enabled) return html`<span class="mark">Off</span>`;
  if (posted.waiting && posted.error) return html`<span class="mark bad">${posted.waiting} wait</span><br /><span class="small">${posted.error}</span>`;
  if (posted.waiting) return html`<span class="mark warn">${posted.waiting} wait</span>`;
  const last = posted.error ? html`<br /><span class="small">${posted.error}</span>` : "";
  return html`<span class="mark ${posted.error ? "warn" : "ok"}">${posted.sent ? `Told ${ago(posted.sent)}` : "Nothing to tell yet"}</span>${last}
    ${posted.given_up > 0 && html`<br /><span class="small">${posted.given_up} given up</span>`}`;
}

export function Channels({ tabs }) {
  const [posted, trouble, again] = useLoad(() => api("GET", "/alert-channels"), []);
  const [editing, setEditing] = useState(null);
  const [deleting, setDeleting] = useState(null);
  const [wrong, setWrong] = useState("");
  const [secret, setSecret] = useState(null);
  useLive((name) => name === "/alerts", again, [again]);
  const act = (work) => work.then(() => (setWrong(""), setEditing(null), setDeleting(null), again()), (error) => (setDeleting(null), setWrong(error.message)));
  const made = (title, key) => (key && setSecret([title, key]), act(Promise.resolve()));
  return html`<div class="row between"><${Title} text="Who is told" /><button class="primary" onClick=${() => setEditing(EMPTY)}>Tell somebody new</button></div>
    ${tabs}<${Trouble} text=${trouble || wrong} />
    <div role="status">${secret && html`<p class="note">The key with which ${secret[0]} checks that we are we, shown this once: <code>${secret[1]}</code></p>`}</div>
    ${editing && html`<${Editor} key=${editing.id} one=${editing} known=${posted.map(({ channel }) => channel.id)} onDone=${made} onClose=${() => setEditing(null)} />`}
    ${deleting && html`<${Sure} text=${`No longer tell ${deleting.title}? What waits for it is given up.`} action="Delete it" onYes=${() => act(api("DELETE", `/alert-channels/${deleting.id}`))} onNo=${() => setDeleting(null)} />`}
    <section class="card" aria-label="All who are told">
      ${posted && !posted.length && html`<p class="soft">Nobody is told yet: alerts are seen here only.</p>`}
      <ul class="alerts">${(posted || []).map((one) => {
        const channel = one.channel;
        const path = `/alert-channels/${channel.id}`;
        const renew = () => act(api("POST", `${path}/secret`).then((found) => setSecret([channel.title, found.secret])));
        const actions = html`<button onClick=${() => act(api("POST", `${path}/test`))}>Test<span class="unseen"> ${channel.title}</span></button>
          <button onClick=${() => (setEditing(channel), scrollTo(0, 0))}>Change<span class="unseen"> ${channel.title}</span></button>
          ${channel.to.kind === "webhook" && html`<button onClick=${renew}>New key<span class="unseen"> ${channel.title}</span></button>`}
          <button onClick=${() => act(api("PUT", path, { ...channel, enabled: !channel.enabled }))}>${channel.enabled ? "Turn off" : "Turn on"}<span class="unseen"> ${channel.title}</span></button>
          <button class="danger" onClick=${() => setDeleting(channel)}>Delete<span class="unseen"> ${channel.title}</span></button>`;
        return html`<${Entry} key=${channel.id} actions=${actions}><h2>${channel.title}</h2><p>${where(channel.to)}</p><p><${Standing} posted=${one} /></p>
          <p class="small soft">${channel.severity === "error" ? "Errors only" : "Warnings and errors"}; boxes: ${scopeText(channel.scope)}</p><//>`;
      })}</ul>
    </section>`;
}

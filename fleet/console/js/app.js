// The frame: who is signed in, which page the address names, the stream of changes.
import { render } from "../vendor/preact.js";
import { useEffect, useRef, useState } from "../vendor/hooks.js";
import { api, html, live, Trouble } from "./lib.js";
import { Alerts, OneAlert, useAlertCounts } from "./alerts.js";
import { Door } from "./door.js";
import { Fleet } from "./fleet.js";
import { Box } from "./box.js";
import { Job, Jobs } from "./jobs.js";
import { NewJob } from "./jobs_new.js";
import { Settings } from "./settings.js";
import { Audit, Events } from "./logs.js";
import { People } from "./people.js";

const PAGES = [
  ["fleet", "Boxes", "viewer"],
  ["alerts", "Alerts", "viewer"],
  ["jobs", "Rollouts", "viewer"],
  ["settings", "Settings", "viewer"],
  ["events", "Events", "viewer"],
  ["audit", "Audit", "admin"],
  ["people", "People", "admin"],
];

const OPEN = ["fleet", "alerts", "events"]; // to whoever is limited to some boxes: the others are about all of them

const place = () => {
  const [page, ...rest] = location.hash.slice(1).split("/").filter(Boolean);
  return { page: page || "fleet", rest: rest.map(decodeURIComponent) };
};

function Page({ at, me, catalogue }) {
  if (me.scope?.length && ![...OPEN, "box", "alert"].includes(at.page)) return html`<${Fleet} me=${me} catalogue=${catalogue} />`;
  if (at.page === "box" && at.rest[0]) return html`<${Box} key=${at.rest[0]} name=${at.rest[0]} me=${me} catalogue=${catalogue} />`;
  if (at.page === "alerts") return html`<${Alerts} key=${at.rest[0]} rest=${at.rest} me=${me} catalogue=${catalogue} />`;
  if (at.page === "alert" && at.rest[0]) return html`<${OneAlert} key=${at.rest[0]} id=${at.rest[0]} me=${me} />`;
  if (at.page === "jobs" && at.rest[0] === "new" && me.role !== "viewer") return html`<${NewJob} key=${at.rest[1]} from=${at.rest[1]} me=${me} catalogue=${catalogue} />`;
  if (at.page === "jobs" && at.rest[0]) return html`<${Job} key=${at.rest[0]} id=${at.rest[0]} me=${me} catalogue=${catalogue} />`;
  if (at.page === "jobs") return html`<${Jobs} me=${me} catalogue=${catalogue} />`;
  if (at.page === "settings") return html`<${Settings} me=${me} catalogue=${catalogue} />`;
  if (at.page === "events") return html`<${Events} catalogue=${catalogue} />`;
  if (at.page === "audit" && me.role === "admin") return html`<${Audit} />`;
  if (at.page === "people" && me.role === "admin") return html`<${People} me=${me} />`;
  return html`<${Fleet} me=${me} catalogue=${catalogue} />`;
}

const here = (page, at) => at.page === page || (page === "fleet" && at.page === "box") || (page === "alerts" && at.page === "alert");

const Firing = ({ of }) => of?.firing > 0 && html` <span class="count ${of.open ? "bad" : ""}">${of.firing}<span class="unseen"> firing</span></span>`;

/** Where to go and who is signed in; on a phone one line, from which a button opens both. */
function Header({ at, me, alerts, onLeave }) {
  const [open, setOpen] = useState(false);
  const button = useRef();
  const pages = PAGES.filter(([page, , role]) => (me.scope?.length ? OPEN.includes(page) : role === "viewer" || me.role === role));
  const content = () => document.querySelector("h1")?.focus();
  const key = (event) => {
    if (event.key !== "Escape" || !open) return;
    setOpen(false);
    button.current.focus();
  };
  return html`<header class="top" onKeyDown=${key}>
    <a class="skip" href="#main" onClick=${(event) => (event.preventDefault(), content())}>To the content</a>
    <span class="brand">Visavis fleet</span>
    <button class="menu" ref=${button} aria-expanded=${open} aria-controls="pages" onClick=${() => setOpen(!open)}>Menu<${Firing} of=${alerts} /></button>
    <div id="pages" class=${open ? "pages open" : "pages"}>
      <nav aria-label="Pages">${pages.map(([page, text]) => html`<a href=${`#${page}`} aria-current=${here(page, at) ? "page" : null}
        onClick=${() => (setOpen(false), content())}>${text}${page === "alerts" && html`<${Firing} of=${alerts} />`}</a>`)}</nav>
      <span class="who small">${me.name} · ${me.role} <button onClick=${onLeave}>Sign out</button></span>
    </div>
  </header>`;
}

function Console() {
  const [me, setMe] = useState(null);
  const [catalogue, setCatalogue] = useState(null);
  const [trouble, setTrouble] = useState("");
  const [lost, setLost] = useState(false);
  const [at, setAt] = useState(place());
  const alerts = useAlertCounts(Boolean(me?.name));

  const fails = (error) => setTrouble(error.message);
  const ask = () => api("GET", "/session").then((found) => (setTrouble(""), setMe(found)), fails);

  useEffect(() => {
    const moved = () => setAt(place());
    addEventListener("hashchange", moved);
    addEventListener("signed-out", ask);
    ask();
    return () => {
      removeEventListener("hashchange", moved);
      removeEventListener("signed-out", ask);
    };
  }, []);
  useEffect(() => live(Boolean(me?.name), setLost), [me?.name]);
  useEffect(() => {
    if (me?.name && !catalogue) api("GET", "/catalogue").then(setCatalogue, fails);
  }, [me]);
  useEffect(() => {
    if (!trouble) return;
    const timer = setInterval(ask, 5000);
    return () => clearInterval(timer);
  }, [trouble]);

  if (me && !me.name) return html`<${Door} setup=${me.setup} sso=${me.sso} onSignedIn=${setMe} />`;
  if (!catalogue) return html`<main aria-busy=${!trouble}><${Trouble} text=${trouble} /></main>`;
  const leave = () => api("DELETE", "/session").finally(() => dispatchEvent(new Event("signed-out")));
  return html`
    <${Header} at=${at} me=${me} alerts=${alerts} onLeave=${leave} />
    <div class="apart">
      <div role="status">${lost && html`<p class="note">Not live: what is shown may be old until the connection is there again.</p>`}</div>
      <${Trouble} text=${trouble} />
    </div>
    <main id="main"><${Page} at=${at} me=${me} catalogue=${catalogue} /></main>`;
}

render(html`<${Console} />`, document.getElementById("app"));

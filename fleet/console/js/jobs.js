// Rollouts: all of them, and one with its phases, failures and story.
import { useState } from "../vendor/hooks.js";
import { ago, api, clock, html, query, Sure, Title, Trouble, useLive, useLoad, useTick } from "./lib.js";
import { selectionText } from "./selection.js";
import { settingsText } from "./settings.js";

const STATES = {
  draft: ["", "Draft"],
  running: ["ok", "Running"],
  paused: ["warn", "Paused"],
  stopped: ["bad", "Stopped"],
  done: ["ok", "Done"],
  aborted: ["", "Aborted"],
};
const BOXES = { done: "done", failed: "failed", missed: "never reached", sent: "at it", due: "to be reached", waiting: "wait for their phase", dropped: "left out" };
const BOX_MARKS = { done: "ok", failed: "bad", missed: "warn" };
const PHASES = { ahead: "Ahead", running: "Running", resting: "Resting", asking: "Waits for approval", met: "Met" };

export const JobState = ({ of }) => html`<span class="mark ${STATES[of][0]}">${STATES[of][1]}</span>`;

export const taskText = (task, catalogue) => {
  if (!task.command) return settingsText(task.settings, catalogue);
  const title = catalogue.commands.find((one) => one.name === task.command)?.title || task.command;
  const given = Object.entries(task.args || {}).map(([key, value]) => `${key.replaceAll("_", " ")} ${value}`).join(", ");
  return given ? `${title}: ${given}` : title;
};

const many = (count) => (count === 1 ? "1 box" : `${count} boxes`);
const sum = (counts) => Object.values(counts).reduce((all, count) => all + count, 0);
const countsText = (counts) => Object.entries(BOXES).filter(([state]) => counts[state]).map(([state, text]) => `${counts[state]} ${text}`).join(", ");

/** A bar of what became of the boxes; the words beside it say the same. */
function Bar({ counts }) {
  const all = sum(counts);
  return html`<div class="bar" aria-hidden="true">${["done", "failed", "missed", "sent"].map(
    (state) => counts[state] > 0 && html`<span key=${state} class=${state} style=${{ width: `${(100 * counts[state]) / all}%` }}></span>`,
  )}</div>`;
}

export function Jobs({ me, catalogue }) {
  const [limit, setLimit] = useState(50);
  const [jobs, trouble, again] = useLoad(() => api("GET", `/jobs${query({ limit })}`), [limit]);
  useLive((name) => name === "/jobs", again, [again]);
  useTick(10);
  return html`
    <div class="row between"><${Title} text="Rollouts" />
      ${me.role !== "viewer" && html`<a class="button primary" href="#jobs/new">New rollout</a>`}</div>
    <${Trouble} text=${trouble} />
    <section class="card" aria-label="List of rollouts">
      ${jobs?.length === 0 && html`<p class="soft">No rollouts yet.</p>`}
      ${jobs?.length > 0 && html`<table class="stacked">
        <thead><tr><th scope="col">State</th><th scope="col">Rollout</th><th scope="col" class="wide">Boxes</th><th scope="col">How far</th><th scope="col" class="wide">By</th><th scope="col" class="wide">Changed</th></tr></thead>
        <tbody>${jobs.map((job) => html`<tr key=${job.id}>
          <td><${JobState} of=${job.state} /></td>
          <th scope="row"><a href=${`#jobs/${job.id}`}>${job.spec.title}</a><br /><span class="soft small">${taskText(job.spec.task, catalogue)}</span></th>
          <td class="wide">${selectionText(job.spec.selection)}</td>
          <td>${sum(job.counts) > 0 && html`<${Bar} counts=${job.counts} /><span class="small">phase ${job.phase + 1} of ${job.phases.length}; ${job.counts.done || 0} of ${sum(job.counts)} done${job.counts.failed ? `, ${job.counts.failed} failed` : ""}</span>`}
            ${job.reason && html`<br /><span class="small">${job.reason}</span>`}</td>
          <td class="wide">${job.author}</td><td class="wide">${ago(job.changed)}</td></tr>`)}</tbody>
      </table>`}
      ${jobs?.length === limit && limit < 500 && html`<button onClick=${() => setLimit(500)}>More</button>`}
    </section>`;
}

function Phase({ job, number }) {
  const phase = job.phases[number];
  const plan = job.spec.plan.phases[number];
  const last = number === job.phases.length - 1;
  const size = last ? "the rest" : plan.unit === "boxes" ? many(plan.size) : `${plan.size} %`;
  const shown = job.state === "draft" ? "" : phase.state === "running" && job.state !== "running" ? STATES[job.state][1] : PHASES[phase.state];
  const now = number === job.phase && !["draft", "done", "aborted"].includes(job.state);
  return html`<li class="card ${now ? "now" : ""}" aria-current=${now ? "step" : null}>
    <div class="row between"><h3>Phase ${number + 1} <span class="soft small">${size}</span></h3>${shown && html`<span class="mark ${phase.state === "met" ? "ok" : ""}">${shown}</span>`}</div>
    ${phase.size > 0 && html`<${Bar} counts=${phase.counts} /><p class="small">${many(phase.size)}: ${countsText(phase.counts)}</p>`}
    ${phase.state === "resting" && html`<p class="small">The next phase begins ${phase.until > Date.now() ? `at ${clock(phase.until)}` : "now"}.</p>`}
    <p class="small soft">Met with ${plan.success} % done; stops at ${plan.stop === 0 ? "the first failure" : `${plan.stop} % failed`}${
      last ? "" : `${plan.rest_s ? `; then rests ${minutes(plan.rest_s)}` : ""}${plan.approve ? "; then asks for approval" : ""}`
    }.</p>
  </li>`;
}

const minutes = (seconds) => (seconds % 3600 === 0 && seconds ? `${seconds / 3600} h` : `${Math.round(seconds / 6) / 10} min`);

const ACTS = [
  ["start", "Start", (job) => job.state === "draft"],
  ["approve", "Begin the next phase", (job) => job.state === "running" && job.phases[job.phase].state === "asking"],
  ["pause", "Pause", (job) => job.state === "running"],
  ["resume", "Resume", (job) => job.state === "paused"],
  ["resume", "Go on all the same", (job) => job.state === "stopped"],
  ["retry", "Try failed boxes again", (job) => !["draft", "aborted"].includes(job.state) && (job.counts.failed || job.counts.missed) > 0],
  ["abort", "Abort", (job) => ["running", "paused", "stopped"].includes(job.state)],
];
const SURE = {
  start: (job) => `${job.spec.title} begins with phase 1.`,
  abort: (job) => `${job.spec.title} ends: boxes that have not got it do not get it any more. Those at it finish.`,
  resume: (job) => `${job.spec.title} goes on although ${job.reason}.`,
};

function Buttons({ job, me, again, onTrouble }) {
  const [asking, setAsking] = useState(null);
  const act = (what) => {
    setAsking(null);
    onTrouble("");
    api("POST", `/jobs/${job.id}`, { do: what }).then(again, (error) => onTrouble(error.message));
  };
  const remove = () => api("DELETE", `/jobs/${job.id}`).then(() => (location.hash = "#jobs"), (error) => onTrouble(error.message));
  const ask = (what, text) => (SURE[what] && !(what === "resume" && job.state === "paused") ? setAsking([what, text]) : act(what));
  const best = { draft: "start", running: "approve", paused: "resume", stopped: "retry" }[job.state];
  return html`<div class="row" role="group" aria-label="What to do">
    ${ACTS.filter(([, , may]) => may(job)).map(
      ([what, text]) => html`<button key=${text} class=${what === "abort" ? "danger" : what === best ? "primary" : ""} onClick=${() => ask(what, text)}>${text}</button>`,
    )}
    <a class="button" href=${`#jobs/new/${job.id}`}>Copy</a>
    ${me.role === "admin" && ["draft", "done", "aborted"].includes(job.state) && html`<button class="danger" onClick=${() => setAsking(["remove", "Forget it"])}>Forget it</button>`}
    ${asking && html`<${Sure} text=${asking[0] === "remove" ? `${job.spec.title} is forgotten with its results.` : SURE[asking[0]](job)} action=${asking[1]}
      onYes=${() => (asking[0] === "remove" ? remove() : act(asking[0]))} onNo=${() => setAsking(null)} />`}
  </div>`;
}

const BoxState = ({ of, reason }) =>
  html`<span class="mark ${BOX_MARKS[of] || ""}">${BOXES[of]}</span>${reason && html`<br /><span class="small">${reason.replaceAll("_", " ")}</span>`}`;

function Boxes({ job, stamp }) {
  const [state, setState] = useState("failed");
  const [limit, setLimit] = useState(100);
  const [boxes] = useLoad(() => api("GET", `/jobs/${job.id}/boxes${query({ state, limit })}`), [job.id, state, limit, stamp]);
  return html`<section class="card" aria-labelledby="boxes">
    <div class="row between"><h2 id="boxes">Boxes</h2>
      <label>Which<select value=${state} onChange=${(event) => setState(event.target.value)}>
        <option value="">All (${sum(job.counts)})</option>
        ${Object.entries(BOXES).map(([one, text]) => html`<option key=${one} value=${one} selected=${state === one}>${text} (${job.counts[one] || 0})</option>`)}
      </select></label></div>
    ${boxes?.length === 0 && html`<p class="soft">None.</p>`}
    ${boxes?.length > 0 && html`<table class="stacked">
      <thead><tr><th scope="col">Box</th><th scope="col">State</th><th scope="col" class="number">Phase</th><th scope="col" class="number wide">Attempt</th><th scope="col" class="wide">Since</th></tr></thead>
      <tbody>${boxes.map((box) => html`<tr key=${box.device}><th scope="row"><a href=${`#box/${encodeURIComponent(box.device)}`}>${box.device}</a></th>
        <td><${BoxState} of=${box.state} reason=${box.reason} /></td>
        <td class="number" data-label="Phase">${box.phase + 1}</td><td class="number wide">${box.attempt}</td><td class="wide">${ago(box.since)}</td></tr>`)}</tbody>
    </table>`}
    ${boxes?.length === limit && limit < 1000 && html`<button onClick=${() => setLimit(1000)}>More</button>`}
  </section>`;
}

/** The last rollouts that a box was in. */
export function BoxJobs({ box, stamp }) {
  const [rows, , again] = useLoad(() => api("GET", `/devices/${encodeURIComponent(box.name)}/jobs`), [box.name, stamp]);
  useLive((name) => name === "/jobs", again, [again]);
  if (!rows?.length) return null;
  return html`<section class="card"><h2>Rollouts</h2><table class="stacked">
    <thead><tr><th scope="col">Rollout</th><th scope="col">State</th><th scope="col" class="number">Phase</th><th scope="col">Since</th></tr></thead>
    <tbody>${rows.map((row) => html`<tr key=${row.job}><th scope="row"><a href=${`#jobs/${row.job}`}>${row.title}</a></th>
      <td><${BoxState} of=${row.state} reason=${row.reason} /></td><td class="number" data-label="Phase">${row.phase + 1}</td><td>${ago(row.since)}</td></tr>`)}</tbody>
  </table></section>`;
}

export function Job({ id, me, catalogue }) {
  const [job, trouble, again] = useLoad(() => api("GET", `/jobs/${encodeURIComponent(id)}`), [id]);
  const [wrong, setWrong] = useState("");
  useLive((name) => name === "/jobs", again, [again]);
  useTick(10);
  if (!job) return html`<${Title} text="Rollout" /><${Trouble} text=${trouble} />`;
  const { spec } = job;
  const window_ = spec.window && `${spec.window.begin} to ${spec.window.end}, by the box's own clock (else ${spec.zone})`;
  const facts = [
    ["What", taskText(spec.task, catalogue)],
    ["Boxes", `${selectionText(spec.selection)}${spec.dynamic ? ", also those that come to match" : ""}`],
    ["At once", `${spec.plan.at_once} at most`],
    ["Only", window_],
    ["Each waits up to", spec.jitter_s && minutes(spec.jitter_s)],
    ["To be reached within", minutes(spec.plan.reach_s)],
    ["To answer within", minutes(spec.plan.answer_s)],
    ["Made by", `${job.author}, ${clock(job.created)}`],
  ].filter(([, value]) => value);
  return html`
    <p class="small"><a href="#jobs">Rollouts</a></p>
    <div class="row between"><${Title} text=${spec.title} /><span role="status"><${JobState} of=${job.state} /></span></div>
    <${Trouble} text=${wrong || trouble} />
    ${job.reason && html`<p class="note bad">Stopped: ${job.reason}.</p>`}
    ${me.role !== "viewer" && html`<${Buttons} job=${job} me=${me} again=${again} onTrouble=${setWrong} />`}
    <section aria-labelledby="phases"><h2 id="phases">Phases</h2><ol class="phases">${job.phases.map((_, number) => html`<${Phase} key=${number} job=${job} number=${number} />`)}</ol></section>
    ${sum(job.counts) > 0 && html`<${Boxes} job=${job} stamp=${job.changed} />`}
    <section class="card"><h2>What it is</h2><dl class="groups">${facts.map(([key, value]) => html`<div key=${key}><dt class="small soft">${key}</dt><dd>${value}</dd></div>`)}</dl></section>
    <section class="card"><h2>What happened</h2><table class="stacked">
      <thead><tr><th scope="col">When</th><th scope="col">Who</th><th scope="col">What</th></tr></thead>
      <tbody>${[...job.notes].reverse().map((note, index) => html`<tr key=${index}><td>${clock(note.ts)}</td><td>${note.author || "the controller"}</td><td>${note.text}</td></tr>`)}</tbody>
    </table></section>`;
}

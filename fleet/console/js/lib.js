// What all pages share: htm bound to Preact, the API, words for numbers and times.
import { h } from "../vendor/preact.js";
import { useCallback, useEffect, useRef, useState } from "../vendor/hooks.js";
import htm from "../vendor/htm.js";

export const html = htm.bind(h);

export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

/** Ask the API; the answer's JSON. Throws Refused with the controller's own line. */
export async function api(method, path, body) {
  let answer;
  try {
    answer = await fetch(`/api/v1${path}`, {
      method,
      headers: { "X-Visavis": "1", ...(body === undefined ? {} : { "Content-Type": "application/json" }) },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Refused(0, "The controller cannot be reached.");
  }
  const found = await answer.json().catch(() => ({}));
  if (answer.status === 401) dispatchEvent(new Event("signed-out"));
  if (!answer.ok) throw new Refused(answer.status, found.error || `The controller answers ${answer.status}.`);
  return found;
}

export const query = (values) => {
  const found = new URLSearchParams(Object.entries(values).filter(([, value]) => value !== "" && value !== undefined && value !== null));
  return found.size ? `?${found}` : "";
};

/** Load what `load` gives, again when `keys` change or `again()` is called: [value, error, again]. The old value stays meanwhile. */
export function useLoad(load, keys) {
  const [state, set] = useState({});
  const turn = useRef(0);
  const again = useCallback(async () => {
    const mine = ++turn.current;
    try {
      const value = await load();
      if (mine === turn.current) set({ value });
    } catch (error) {
      if (mine === turn.current) set((old) => ({ value: old.value, error: error.message }));
    }
  }, keys);
  useEffect(() => {
    again();
    return () => turn.current++;
  }, [again]);
  return [state.value, state.error, again];
}

const listeners = new Set();
const AGAIN_MS = 5000;
const LOOK_MS = 5000;
let stream = null;
let reopening = 0;
let looking = 0;
let wordMs = 16000; // within which the stream says something; it tells it itself

/** Open the stream of changes, once signed in; close it with `false`. `lost` hears true when it breaks, false when it is there again. */
export function live(on, lost) {
  stream?.close();
  clearTimeout(reopening);
  clearInterval(looking);
  stream = null;
  if (!on) return lost(false);
  stream = new EventSource("/api/v1/live");
  const tell = (names) => {
    for (const listener of listeners) listener(names);
  };
  let heard = Date.now();
  const listen = (kind, act) => stream.addEventListener(kind, (event) => {
    heard = Date.now();
    act(event);
  });
  listen("here", (event) => (wordMs = Number(event.data) * 1000));
  listen("devices", (event) => tell(new Set(JSON.parse(event.data))));
  listen("jobs", () => tell(new Set(["/jobs"])));
  listen("alerts", () => tell(new Set(["/alerts"])));
  listen("open", () => {
    lost(false);
    tell(null);
  });
  // One that died while the machine slept, or on the way, never says so. The wall clock goes on in sleep, and may be set back.
  looking = setInterval(() => {
    if (Math.abs(Date.now() - heard) <= 2 * wordMs) return;
    lost(true);
    live(true, lost);
  }, LOOK_MS);
  stream.addEventListener("error", ({ target }) => {
    lost(true);
    // One that was interrupted opens again by itself; one that was refused never does, and perhaps nobody is signed in any more.
    if (target.readyState !== EventSource.CLOSED) return;
    dispatchEvent(new Event("signed-out"));
    reopening = setTimeout(() => live(true, lost), AGAIN_MS);
  });
}

/** Call `again` when a box for which `mine(name)` is true changed, and after the stream was interrupted; at most every other second. */
export function useLive(mine, again, keys) {
  useEffect(() => {
    let waiting = 0;
    let last = 0;
    const listener = (names) => {
      if (names !== null && ![...names].some(mine)) return;
      if (waiting) return;
      waiting = setTimeout(() => {
        waiting = 0;
        last = performance.now();
        again();
      }, Math.max(0, last + 2000 - performance.now()));
    };
    listeners.add(listener);
    return () => {
      listeners.delete(listener);
      clearTimeout(waiting);
    };
  }, keys);
}

/** Draw again every `seconds`, for what says how long ago something was. */
export function useTick(seconds) {
  const [, set] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => set((n) => n + 1), seconds * 1000);
    return () => clearInterval(timer);
  }, []);
}

const STATES = {
  online: ["ok", "Online"],
  offline: ["", "Switched off"],
  lost: ["bad", "Lost"],
  silent: ["warn", "Silent"],
  new: ["", "Never seen"],
};
const CONDITIONS = { ok: ["ok", "Well"], warn: ["warn", "Look"], bad: ["bad", "Act"], unknown: ["", "Unknown"] };

export const stateName = (state) => (STATES[state] || ["", state])[1];
export const conditionName = (condition) => (CONDITIONS[condition] || ["", condition])[1];
export const State = ({ of }) => html`<span class="mark ${(STATES[of] || [""])[0]}">${stateName(of)}</span>`;
export const Condition = ({ of }) => html`<span class="mark ${(CONDITIONS[of] || [""])[0]}">${conditionName(of)}</span>`;
export const Severity = ({ of }) =>
  html`<span class="mark ${{ warning: "warn", error: "bad" }[of] || ""}">${{ info: "Info", warning: "Warning", error: "Error" }[of] || of}</span>`;

export const clock = (ts) => (ts ? new Date(ts).toLocaleString() : "never");

export function ago(ts) {
  if (!ts) return "never";
  const seconds = Math.max(0, (Date.now() - ts) / 1000);
  for (const [size, word] of [[86400, "d"], [3600, "h"], [60, "min"]]) if (seconds >= size) return `${Math.floor(seconds / size)} ${word} ago`;
  return seconds < 10 ? "now" : `${Math.floor(seconds)} s ago`;
}

export function span(seconds) {
  if (seconds >= 172800) return `${Math.floor(seconds / 86400)} d`;
  if (seconds >= 7200) return `${Math.floor(seconds / 3600)} h`;
  return seconds >= 120 ? `${Math.floor(seconds / 60)} min` : `${Math.round(seconds)} s`;
}

const UNITS = { celsius: " °C", watts: " W", hertz: " Hz", ms: " ms", megabytes: " MB", percent: " %", dBFS: " dBFS" };

/** A metric's value as a person reads it. */
export function show(metric, value) {
  if (value === undefined || value === null) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "string") return value.replaceAll("_", " ");
  if (metric.unit === "ratio") return `${Math.round(value * 100)} %`;
  if (metric.unit === "seconds") return span(value);
  if (metric.unit === "bytes") return value >= 1e6 ? `${(value / 1e6).toFixed(1)} MB` : `${Math.round(value / 1e3)} kB`;
  const text = Number.isInteger(value) ? String(value) : value.toFixed(Math.abs(value) < 10 ? 1 : 0);
  return text + (UNITS[metric.unit] || "");
}

/** "", "warn" or "bad" by the catalogue's thresholds; the controller judges a whole box by the same rule. */
export function verdict(metric, value) {
  if (typeof value !== "number") return value === "given_up" ? "bad" : "";
  const past = (limit) => limit !== null && limit !== undefined && (metric.falling ? value <= limit : value >= limit);
  return past(metric.bad) ? "bad" : past(metric.warn) ? "warn" : "";
}

/** A page's heading: takes the focus when the page is entered and names the window. */
export function Title({ text, children }) {
  const heading = useRef();
  useEffect(() => {
    document.title = `${text} · Visavis fleet`;
    heading.current.focus();
  }, [text]);
  return html`<h1 tabindex="-1" ref=${heading}>${children || text}</h1>`;
}

export const Trouble = ({ text }) => html`<div role="alert">${text && html`<p class="note bad">${text}</p>`}</div>`;

/** A question before something that cannot be taken back. */
export function Sure({ text, action, onYes, onNo }) {
  const dialog = useRef();
  useEffect(() => dialog.current.showModal(), []);
  return html`<dialog ref=${dialog} onClose=${onNo} aria-labelledby="sure">
    <p id="sure">${text}</p>
    <div class="row" style=${{ marginTop: "1rem" }}>
      <button class="primary danger" onClick=${onYes}>${action}</button>
      <button onClick=${() => dialog.current.close()}>Leave it</button>
    </div>
  </dialog>`;
}

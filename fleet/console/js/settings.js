// The settings boxes should have: those of groups, what differs, and the part of one box's page.
import { useEffect, useRef, useState } from "../vendor/hooks.js";
import { ago, api, clock, html, Sure, Title, Trouble, useLive, useLoad, useTick } from "./lib.js";
import { Field, offered } from "./commands.js";
import { Selection, selectionText } from "./selection.js";

const STATES = { none: ["", "Nothing is wanted"], pending: ["", "Waits for the box"], same: ["ok", "As wanted"], differs: ["warn", "Differs"] };
const Mark = ({ of, text }) => html`<span class="mark ${STATES[of][0]}">${text ?? STATES[of][1]}</span>`;

const titles = (catalogue) => Object.fromEntries(catalogue.settings.map((one) => [one.name, one.title]));
export const value = (one) => (one === null || one === undefined ? "–" : typeof one === "boolean" ? (one ? "yes" : "no") : String(one));
export const settingsText = (settings, catalogue) =>
  Object.entries(settings).map(([name, one]) => `${titles(catalogue)[name] || name}: ${one === null ? "taken back" : value(one)}`).join("; ");

/** One setting and its value to choose; calls `onSet(name, value)`. Not a form of its own: it may stand in one. */
export function Setting({ catalogue, me, onSet, action = "Set", back = false, box = null }) {
  const may = catalogue.settings.filter((one) => me.role === "admin" || one.role === me.role);
  const [name, setName] = useState(may[0]?.name);
  const [trouble, setTrouble] = useState("");
  const place = useRef();
  const kind = may.find((one) => one.name === name);
  const set = () => {
    const input = place.current.querySelector(`[name="${CSS.escape(name)}"]`);
    if (input.value === "" || !input.checkValidity()) {
      setTrouble(`${kind.title}: a value that may be is needed.`);
      input.focus();
      return;
    }
    setTrouble("");
    onSet(name, input.type === "number" ? Number(input.value) : input.value);
  };
  return html`<div ref=${place}>
    <div class="row">
      <label>Setting<select value=${name} onChange=${(event) => setName(event.target.value)}>${may.map(
        (one) => html`<option key=${one.name} value=${one.name} selected=${one.name === name}>${one.title}</option>`,
      )}</select></label>
      <${Field} key=${name} name=${name} label="Value" schema=${offered(kind.value, name, box)} optional=${true} />
      <button type="button" onClick=${set}>${action}</button>
      ${back && html`<button type="button" onClick=${() => (setTrouble(""), onSet(name, null))}>Take back</button>`}
    </div>
    <${Trouble} text=${trouble} />
  </div>`;
}

/** Settings that were chosen, each with a button that leaves it out. */
export function Chosen({ settings, catalogue, onChange }) {
  const names = Object.keys(settings);
  if (!names.length) return html`<p class="soft">No setting is chosen yet.</p>`;
  const without = (name) => Object.fromEntries(Object.entries(settings).filter(([one]) => one !== name));
  return html`<ul class="row" style=${{ padding: 0, listStyle: "none" }}>${names.map((name) => html`<li key=${name}>
    <span class="mark">${titles(catalogue)[name]}: ${settings[name] === null ? "taken back" : value(settings[name])}</span>
    <button type="button" onClick=${() => onChange(without(name))}>Leave out<span class="unseen"> ${titles(catalogue)[name]}</span></button></li>`)}</ul>`;
}

export function BoxSettings({ box, me, catalogue, stamp }) {
  const path = `/devices/${encodeURIComponent(box.name)}/settings`;
  const [found, trouble, again] = useLoad(() => api("GET", path), [box.name, stamp]);
  const [wrong, setWrong] = useState("");
  useLive((one) => one === box.name || one === "/jobs", again, [again]);
  if (!found) return html`<section class="card"><h2>Settings</h2><${Trouble} text=${trouble} /></section>`;
  const set = (name, one) => {
    setWrong("");
    return api("POST", path, { settings: { [name]: one } }).then(again, (error) => setWrong(error.message));
  };
  const names = [...new Set([...Object.keys(found.wanted), ...Object.keys(found.reported)])].sort();
  const differences = Object.fromEntries(found.differences.map((one) => [one.name, one]));
  const from = (name) => (!(name in found.wanted) ? "" : found.origin[name] === "" ? "this box" : `group ${found.origin[name]}`);
  return html`<section class="card">
    <div class="row between"><h2>Settings</h2><span class="row"><${Mark} of=${found.state} />
      <span class="small soft">${found.told ? `told ${ago(found.told)}` : "not told yet"}</span></span></div>
    <${Trouble} text=${wrong || trouble} />
    ${found.held && found.held.until > Date.now() && html`<p class="note">A command holds rung ${found.held.rung} until ${clock(found.held.until)}, unless heat or late frames ask for less.</p>`}
    ${names.length === 0 && html`<p class="soft">Nothing is wanted of this box, and it has told nothing.</p>`}
    ${names.length > 0 && html`<table class="stacked">
      <thead><tr><th scope="col">Setting</th><th scope="col">Wanted</th><th scope="col">Is</th><th scope="col">State</th></tr></thead>
      <tbody>${names.map((name) => {
        const state = !(name in found.wanted) ? "none" : found.reported_version < found.version ? "pending" : differences[name] ? "differs" : "same";
        return html`<tr key=${name}><th scope="row">${titles(catalogue)[name] || name}</th>
          <td data-label="Wanted">${name in found.wanted ? value(found.wanted[name]) : html`<span class="soft">–</span>`}${from(name) && html`<br /><span class="soft small">by ${from(name)}</span>`}</td>
          <td data-label="Is">${value(found.reported[name])}</td>
          <td>${state === "none" ? html`<span class="soft small">its own</span>` : html`<${Mark} of=${state} />`}
            ${state === "differs" && differences[name].reason && html`<br /><span class="small">${differences[name].reason}</span>`}
            ${me.role !== "viewer" && name in found.own && html`<br /><button onClick=${() => set(name, null)}>Take back<span class="unseen"> ${titles(catalogue)[name]}</span></button>`}</td></tr>`;
      })}</tbody>
    </table>`}
    ${me.role !== "viewer" && html`<div style=${{ marginTop: "1rem" }}><${Setting} catalogue=${catalogue} me=${me} onSet=${set} action="Set for this box" box=${box} /></div>`}
  </section>`;
}

function GroupForm({ group, me, catalogue, facets, onClose }) {
  const dialog = useRef();
  const [selection, setSelection] = useState(group?.selection || {});
  const [settings, setSettings] = useState(group?.settings || {});
  const [trouble, setTrouble] = useState("");
  useEffect(() => dialog.current.showModal(), []);
  const send = async (event) => {
    event.preventDefault();
    const given = Object.fromEntries(new FormData(event.target));
    try {
      await api("POST", `/settings/groups/${encodeURIComponent(group?.name || given.group)}`, { priority: Number(given.priority), selection, settings });
      dialog.current.close();
    } catch (error) {
      setTrouble(error.message);
    }
  };
  return html`<dialog ref=${dialog} onClose=${onClose} aria-labelledby="group-title">
    <h2 id="group-title">${group ? `Group ${group.name}` : "A new group"}</h2>
    <form class="stack" onSubmit=${send}>
      <div class="row">
        <label>Name of the group<input name="group" required=${!group} maxlength="63" autocomplete="off" autocapitalize="none" value=${group?.name} disabled=${Boolean(group)} /></label>
        <label>Priority (the higher wins)<input class="short" name="priority" type="number" min="0" max="1000" required defaultValue=${group?.priority ?? 0} /></label>
      </div>
      <fieldset class="stack"><legend>Which boxes</legend><${Selection} wanted=${selection} facets=${facets} onChange=${setSelection} /></fieldset>
      <fieldset class="stack"><legend>What they should have</legend>
        <${Chosen} settings=${settings} catalogue=${catalogue} onChange=${setSettings} />
        <${Setting} catalogue=${catalogue} me=${me} action="Add" onSet=${(name, one) => setSettings({ ...settings, [name]: one })} />
      </fieldset>
      <${Trouble} text=${trouble} />
      <div class="row"><button class="primary">Save</button><button type="button" onClick=${() => dialog.current.close()}>Leave it</button></div>
    </form>
  </dialog>`;
}

export function Settings({ me, catalogue }) {
  const [groups, trouble, againGroups] = useLoad(() => api("GET", "/settings/groups"), []);
  const [drift, , againDrift] = useLoad(() => api("GET", "/settings"), []);
  const [boxes] = useLoad(() => api("GET", "/devices?limit=1"), []);
  const [editing, setEditing] = useState(null);
  const [removing, setRemoving] = useState(null);
  const [wrong, setWrong] = useState("");
  const again = () => (againGroups(), againDrift());
  useLive(() => true, again, [againGroups, againDrift]);
  useTick(10);
  const remove = () =>
    api("DELETE", `/settings/groups/${encodeURIComponent(removing)}`).then(again, (error) => setWrong(error.message)).finally(() => setRemoving(null));
  return html`
    <div class="row between"><${Title} text="Settings of many boxes" />
      ${me.role === "admin" && html`<button class="primary" onClick=${() => setEditing({})}>New group</button>`}</div>
    <${Trouble} text=${trouble || wrong} />
    ${editing && html`<${GroupForm} group=${editing.name ? editing : null} me=${me} catalogue=${catalogue} facets=${boxes?.facets} onClose=${() => (setEditing(null), again())} />`}
    ${removing && html`<${Sure} text=${`The boxes of ${removing} go back to what else is wanted of them, or to their own kiosk.toml.`} action="Remove" onYes=${remove} onNo=${() => setRemoving(null)} />`}
    <section class="card" aria-labelledby="groups">
      <h2 id="groups">Groups</h2>
      <p class="soft small">What a box's own settings name wins over every group; then the group with the higher priority; of equal ones the first by name.</p>
      ${groups?.length === 0 && html`<p>No group has settings yet.</p>`}
      ${groups?.length > 0 && html`<table class="stacked">
        <thead><tr><th scope="col">Group</th><th scope="col">Boxes</th><th scope="col">Should have</th><th scope="col">Are so</th></tr></thead>
        <tbody>${groups.map(({ group, same, pending, differs }) => html`<tr key=${group.name}>
          <th scope="row">${group.name}<br /><span class="soft small">priority ${group.priority}, by ${group.author}</span>
            ${me.role === "admin" && html`<div class="row" style=${{ marginTop: "0.5rem" }}><button onClick=${() => setEditing(group)}>Edit<span class="unseen"> ${group.name}</span></button>
              <button class="danger" onClick=${() => setRemoving(group.name)}>Remove<span class="unseen"> ${group.name}</span></button></div>`}</th>
          <td data-label="Boxes">${selectionText(group.selection)}</td><td>${settingsText(group.settings, catalogue)}</td>
          <td><${Mark} of="same" text=${`${same} as wanted`} />${pending > 0 && html` <${Mark} of="pending" text=${`${pending} not yet`} />`}
            ${differs > 0 && html` <${Mark} of="differs" text=${`${differs} differ`} />`}</td></tr>`)}</tbody>
      </table>`}
    </section>
    <section class="card" aria-labelledby="drift">
      <h2 id="drift">Not as they should be</h2>
      ${drift && drift.boxes.length === 0 && html`<p class="soft">Every box is as it should be${drift.states.same ? ` (${drift.states.same})` : ""}.</p>`}
      ${drift?.boxes.length > 0 && html`<table class="stacked">
        <thead><tr><th scope="col">Box</th><th scope="col">State</th><th scope="col">What</th></tr></thead>
        <tbody>${drift.boxes.map((box) => html`<tr key=${box.device}><th scope="row"><a href=${`#box/${encodeURIComponent(box.device)}`}>${box.device}</a></th>
          <td><${Mark} of=${box.state} /></td>
          <td>${box.state === "pending" ? html`<span class="soft small">wanted ${ago(box.changed)}</span>` : html`<ul style=${{ padding: 0, listStyle: "none" }}>${box.differences.map(
            (one) => html`<li key=${one.name}>${titles(catalogue)[one.name] || one.name}: ${value(one.wanted)} wanted, is ${value(one.found)}${one.reason && html`<br /><span class="small soft">${one.reason}</span>`}</li>`,
          )}</ul>`}</td></tr>`)}</tbody>
      </table>`}
    </section>`;
}

// What a box may be told to do, and what it answered.
import { useState } from "../vendor/hooks.js";
import { ago, api, html, query, Sure, Trouble, useLoad } from "./lib.js";

const DRASTIC = new Set(["restart_box", "restart_service", "update"]);

/** An argument of a command, or another value with a JSON Schema. */
export function Field({ name, schema, label, optional = schema.default !== undefined }) {
  const text = label || name.replaceAll("_", " ");
  if (schema.enum) return html`<label>${text}<select name=${name}>${schema.enum.map((value) => html`<option>${value}</option>`)}</select></label>`;
  const number = schema.type === "number" || schema.type === "integer";
  const limits = number ? { min: schema.minimum, max: schema.maximum, step: schema.type === "integer" ? 1 : "any" } : { maxlength: schema.maxLength };
  return html`<label>${text}${number ? html` <span class="soft">${schema.minimum} to ${schema.maximum}</span>` : ""}
    <input name=${name} type=${number ? "number" : "text"} required=${!optional} defaultValue=${schema.default} autocomplete="off" ...${limits} /></label>`;
}

/** What a box says it can choose from, in place of what any box may be told. */
export const offered = (schema, name, box) => (name === "pack" && box?.birth.packs?.length ? { enum: box.birth.packs } : schema);

/** The arguments in a form of such fields. */
export const read = (form, schemas) => {
  const given = Object.fromEntries(new FormData(form));
  return Object.fromEntries(
    Object.entries(schemas).flatMap(([name, schema]) => {
      const text = given[name] ?? "";
      if (text === "") return [];
      return [[name, schema.type === "number" || schema.type === "integer" ? Number(text) : text]];
    }),
  );
};

const WORDS = { queued: ["", "Waits for the box"], sent: ["", "Sent"], expired: ["warn", "Expired"], withdrawn: ["", "Withdrawn"] };
const OUTCOMES = { done: "ok", failed: "bad", refused: "warn", unsupported: "warn", interrupted: "warn" };

function Answer({ order }) {
  const { jpeg, ...rest } = order.result;
  return html`
    ${order.reason && html`<p>${order.reason.replaceAll("_", " ")}</p>`}
    ${jpeg && html`<img class="snapshot" alt=${`The avatar as it was ${ago(order.answered)}`} src=${`data:image/jpeg;base64,${jpeg}`} />`}
    ${Object.keys(rest).length > 0 && html`<details><summary>Details</summary><pre tabindex="0">${JSON.stringify(rest, null, 1)}</pre></details>`}`;
}

export function Commands({ box, me, catalogue, stamp }) {
  const may = catalogue.commands.filter((one) => me.role === "admin" || one.role === me.role);
  const [name, setName] = useState("ping");
  const [asking, setAsking] = useState(null);
  const [trouble, setTrouble] = useState("");
  const [orders, , again] = useLoad(() => api("GET", `/commands${query({ device: box.name, limit: 20 })}`), [box.name, stamp]);
  const kind = catalogue.commands.find((one) => one.name === name);
  const knows = (one) => !box.birth.commands?.length || box.birth.commands.includes(one);

  const send = async (args) => {
    setAsking(null);
    setTrouble("");
    try {
      await api("POST", `/devices/${encodeURIComponent(box.name)}/commands`, { name, args });
      again();
    } catch (error) {
      setTrouble(error.message);
    }
  };
  const submit = (event) => {
    event.preventDefault();
    const args = read(event.target, kind.arguments);
    if (DRASTIC.has(name)) setAsking(args);
    else send(args);
  };
  return html`<section class="card">
    <h2>Commands</h2>
    ${me.role !== "viewer" && html`<form class="row" onSubmit=${submit}>
      <label>Command<select value=${name} onChange=${(event) => setName(event.target.value)}>${may.map(
        (one) => html`<option value=${one.name} selected=${one.name === name}>${one.title}${knows(one.name) ? "" : " (not on this box)"}</option>`,
      )}</select></label>
      ${Object.entries(kind.arguments).map(([field, schema]) => html`<${Field} key=${`${name}.${field}`} name=${field} schema=${offered(schema, field, box)} />`)}
      <button class="primary">Send</button>
    </form>`}
    ${asking && html`<${Sure} text=${`${kind.title}: ${box.name}. A conversation there will end.`} action=${kind.title} onYes=${() => send(asking)} onNo=${() => setAsking(null)} />`}
    <${Trouble} text=${trouble} />
    ${orders?.length > 0 && html`<table style=${{ marginTop: "1rem" }}>
      <thead><tr><th scope="col">Command</th><th scope="col" class="wide">By</th><th scope="col">When</th><th scope="col">Answer</th></tr></thead>
      <tbody>${orders.map((order) => {
        const [mark, text] = order.state === "answered" ? [OUTCOMES[order.outcome] || "", order.outcome] : WORDS[order.state] || ["", order.state];
        const title = catalogue.commands.find((one) => one.name === order.name)?.title || order.name;
        const given = Object.entries(order.args).map(([key, value]) => `${key} ${value}`).join(", ");
        return html`<tr key=${order.id}><th scope="row">${title}${given && html`<br /><span class="soft small">${given}</span>`}</th>
          <td class="wide">${order.author}</td><td>${ago(order.issued)}</td>
          <td><span class="mark ${mark}">${text}</span><${Answer} order=${order} /></td></tr>`;
      })}</tbody>
    </table>`}
  </section>`;
}

// Which boxes a rule, maintenance or a channel is for.
import { html } from "./lib.js";

const FIELDS = [["sites", "Sites"], ["models", "Models"], ["releases", "Versions"], ["names", "Names, with * and ?"]];
const lines = (text) => (text || "").split("\n").map((line) => line.trim()).filter(Boolean);

/** An id made of a title, unlike all that are known. */
export function slug(title, known) {
  const base = title.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 36).replace(/-$/, "") || "one";
  let id = base;
  for (let n = 2; known.includes(id); n++) id = `${base}-${n}`;
  return id;
}

export const scopeOf = (form) => Object.fromEntries(FIELDS.map(([name]) => [name, lines(form.get(name))]));

export function scopeText(scope) {
  const parts = FIELDS.filter(([name]) => scope[name].length).map(([name]) => scope[name].join(", "));
  return parts.length ? parts.join("; ") : "All";
}

/** A row of a list: what it is, and what may be done with it. */
export const Entry = ({ children, actions }) => html`<li class="alert"><div class="row between"><div class="grow">${children}</div>
  ${actions && html`<div class="row tight">${actions}</div>`}</div></li>`;

export const ScopeFields = ({ scope }) => html`<details open=${scopeText(scope) !== "All"}><summary>Only some boxes</summary>
  <p class="small soft">One in each line; empty is all.</p>
  <div class="row" style=${{ marginTop: "0.5rem" }}>${FIELDS.map(([name, text]) => html`<label class="grow">${text}<textarea name=${name} rows="2" defaultValue=${scope[name].join("\n")}></textarea></label>`)}</div>
</details>`;

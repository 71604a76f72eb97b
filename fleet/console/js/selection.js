// Which boxes: fields to choose by, and the choice in words.
import { html } from "./lib.js";

const FIELDS = [["site", "Site"], ["model", "Model"], ["release", "Version"]];

export function selectionText(selection) {
  const parts = FIELDS.flatMap(([name, title]) => (selection[name] ? [`${title} ${selection[name]}`] : []));
  if (selection.name) parts.unshift(selection.name);
  if (selection.boxes?.length) parts.unshift(selection.boxes.length > 3 ? `${selection.boxes.length} named boxes` : selection.boxes.join(", "));
  return parts.length ? parts.join(", ") : "all boxes";
}

/** Fields of a selection; `facets` are those of the list of boxes. */
export function Selection({ wanted, facets, onChange }) {
  const set = (name, value) => onChange({ ...wanted, [name]: value });
  return html`<div class="row">
    <label>Name (* and ? stand for anything)<input value=${wanted.name || ""} maxlength="200" autocomplete="off" autocapitalize="none" placeholder="all" onInput=${(event) => set("name", event.target.value.trim())} /></label>
    ${FIELDS.map(([name, title]) => {
      const values = Object.entries(facets?.[name] || {}).filter(([value]) => value);
      const known = values.some(([value]) => value === wanted[name]);
      return html`<label key=${name}>${title}<select value=${wanted[name] || ""} onChange=${(event) => set(name, event.target.value)}>
        <option value="">All</option>
        ${wanted[name] && !known && html`<option value=${wanted[name]} selected>${wanted[name]} (0)</option>`}
        ${values.map(([value, count]) => html`<option key=${value} value=${value} selected=${wanted[name] === value}>${value} (${count})</option>`)}
      </select></label>`;
    })}
  </div>`;
}

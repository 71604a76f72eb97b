// Events of all boxes, and the audit log.
import { useState } from "../vendor/hooks.js";
import { api, clock, html, query, Severity, Title, Trouble, useLive, useLoad } from "./lib.js";

const OWN = {
  box_online: "The box is online",
  box_offline: "The box was switched off",
  box_lost: "The connection was lost",
  box_silent: "Nothing was heard for too long",
  box_renewal_waits: "Its certificate has ended; it asks for a new one",
};

const details = (values) => Object.entries(values).map(([key, value]) => `${key} ${value}`).join(", ");

export function EventRows({ events, catalogue, boxes = false }) {
  if (!events) return html`<p aria-busy="true"></p>`;
  if (!events.length) return html`<p class="soft">Nothing happened.</p>`;
  const titles = Object.fromEntries(catalogue.events.map((one) => [one.code, one.title]));
  return html`<table>
    <thead><tr><th scope="col">When</th>${boxes && html`<th scope="col">Box</th>`}<th scope="col">What</th><th scope="col">Severity</th></tr></thead>
    <tbody>${events.map((event) => html`<tr key=${event.id}>
      <td>${clock(event.ts)}</td>${boxes && html`<td><a href=${`#box/${encodeURIComponent(event.device)}`}>${event.device}</a></td>`}
      <td>${titles[event.code] || OWN[event.code] || event.code}${Object.keys(event.details).length > 0 && html`<br /><span class="soft small">${details(event.details)}</span>`}</td>
      <td><${Severity} of=${event.severity} /></td></tr>`)}</tbody>
  </table>`;
}

export function Events({ catalogue }) {
  const [wanted, setWanted] = useState({ device: "", severity: "" });
  const [limit, setLimit] = useState(100);
  const [events, trouble, again] = useLoad(() => api("GET", `/events${query({ ...wanted, limit })}`), [JSON.stringify(wanted), limit]);
  useLive(() => true, again, [again]);
  return html`<${Title} text="Events" /><${Trouble} text=${trouble} />
    <section class="card" aria-label="Events of all boxes">
      <form class="row" role="search" onSubmit=${(event) => event.preventDefault()}>
        <label>Box<input type="search" onChange=${(event) => setWanted({ ...wanted, device: event.target.value.trim() })} /></label>
        <label>Severity<select onChange=${(event) => setWanted({ ...wanted, severity: event.target.value })}>
          <option value="">All</option><option value="warning">Warning</option><option value="error">Error</option><option value="info">Info</option>
        </select></label>
      </form>
      <div style=${{ marginTop: "1rem" }}><${EventRows} events=${events} catalogue=${catalogue} boxes=${true} /></div>
      ${events?.length === limit && limit < 1000 && html`<button onClick=${() => setLimit(Math.min(1000, limit + 300))}>More</button>`}
    </section>`;
}

export function Audit() {
  const [limit, setLimit] = useState(100);
  const [rows, trouble] = useLoad(() => api("GET", `/audit${query({ limit })}`), [limit]);
  return html`<${Title} text="Audit" /><${Trouble} text=${trouble} />
    <section class="card" aria-label="Who did what">
      ${rows && html`<table>
        <thead><tr><th scope="col">When</th><th scope="col">Who</th><th scope="col">What</th><th scope="col" class="wide">From</th></tr></thead>
        <tbody>${rows.map((row) => html`<tr key=${row.id}><td>${clock(row.ts)}</td><td>${row.author}</td>
          <td>${row.action} ${row.target}${Object.keys(row.details).length > 0 && html`<br /><span class="soft small">${JSON.stringify(row.details)}</span>`}</td>
          <td class="wide">${row.address}</td></tr>`)}</tbody>
      </table>`}
      ${rows?.length === limit && limit < 1000 && html`<button onClick=${() => setLimit(Math.min(1000, limit + 300))}>More</button>`}
    </section>`;
}

// Boxes whose certificate has ended and that ask for a new one: an admin's word.
import { useState } from "../vendor/hooks.js";
import { ago, api, html, Trouble, useLive, useLoad } from "./lib.js";

export function Renewals() {
  const [asking, trouble, again] = useLoad(() => api("GET", "/renewals"), []);
  const [wrong, setWrong] = useState("");
  useLive(() => true, again, [again]);
  if (!asking?.length) return html`<${Trouble} text=${trouble || wrong} />`;
  const decide = (one, approve) => {
    setWrong("");
    api("POST", `/renewals/${one.fingerprint}`, { approve }).then(again, (error) => setWrong(error.message));
  };
  return html`<section class="note"><h2>Certificates that have ended</h2>
    <p>These boxes proved that they have the old key. They are back within 20 minutes after you approve.</p>
    <${Trouble} text=${wrong} />
    <table><thead><tr><th scope="col">Box</th><th scope="col" class="wide">Ended</th><th scope="col" class="wide">Asks from</th><th scope="col">New key</th><th scope="col">Decide</th></tr></thead>
      <tbody>${asking.map((one) => html`<tr key=${one.fingerprint}><th scope="row"><a href=${`#box/${encodeURIComponent(one.device)}`}>${one.device}</a></th>
        <td class="wide">${ago(one.ended)}</td><td class="wide">${one.address}</td><td><code>${one.fingerprint.slice(0, 16)}…</code></td>
        <td><div class="row"><button class="primary" onClick=${() => decide(one, true)}>Approve<span class="unseen"> ${one.device}</span></button>
          <button class="danger" onClick=${() => decide(one, false)}>Refuse<span class="unseen"> ${one.device}</span></button></div></td></tr>`)}</tbody></table>
  </section>`;
}

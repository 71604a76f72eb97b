// Users with their roles, and tokens of programs.
import { useState } from "../vendor/hooks.js";
import { api, clock, html, Title, Trouble, useLoad } from "./lib.js";

const ROLES = [["viewer", "Viewer: sees"], ["operator", "Operator: also sends commands"], ["admin", "Admin: everything"]];

const Roles = ({ value = "viewer", label = "Role", onChange }) => html`<label>${label}<select name="role" onChange=${onChange}>${ROLES.map(
  ([role, text]) => html`<option value=${role} selected=${role === value}>${text}</option>`,
)}</select></label>`;

const Limits = () => html`<label>Only these boxes <span class="soft">all unless told</span>
  <input name="scope" autocomplete="off" placeholder="site:Berlin*, name:store-12-*" /></label>`;

const rules = (text) => (text || "").split(",").map((rule) => rule.trim()).filter(Boolean);
const limits = (one) => (one.scope.length > 0 ? html`<br /><span class="soft small">${one.scope.join(", ")}</span>` : "");

function Limit({ user, onChange }) {
  const send = (event) => {
    event.preventDefault();
    onChange(rules(new FormData(event.target).get("scope")));
  };
  return html`<details><summary class="small">${user.scope.length ? user.scope.join(", ") : "All boxes"}<span class="unseen"> for ${user.name}</span></summary>
    <form class="row" onSubmit=${send}><label><span class="unseen">Boxes of ${user.name}</span><input name="scope" autocomplete="off" defaultValue=${user.scope.join(", ")} /></label>
      <button>Limit<span class="unseen"> ${user.name}</span></button></form></details>`;
}

export function People({ me }) {
  const [users, trouble, againUsers] = useLoad(() => api("GET", "/users"), []);
  const [tokens, , againTokens] = useLoad(() => api("GET", "/tokens"), []);
  const [wrong, setWrong] = useState("");
  const [secret, setSecret] = useState("");

  const act = (work) => {
    setWrong("");
    return work.then(() => (againUsers(), againTokens()), (error) => setWrong(error.message));
  };
  const add = (event) => {
    event.preventDefault();
    const form = event.target;
    const given = Object.fromEntries(new FormData(form));
    act(api("POST", "/users", { ...given, scope: rules(given.scope) }).then(() => form.reset()));
  };
  const make = (event) => {
    event.preventDefault();
    const given = Object.fromEntries(new FormData(event.target));
    act(api("POST", "/tokens", { ...given, days: Number(given.days), scope: rules(given.scope) }).then((found) => setSecret(found.token)));
  };
  const change = (name, what) => act(api("POST", `/users/${encodeURIComponent(name)}`, what));
  return html`<${Title} text="People and programs" /><${Trouble} text=${trouble || wrong} />
    <section class="card"><h2>Users</h2>
      ${users && html`<table>
        <thead><tr><th scope="col">Name</th><th scope="col">Role</th><th scope="col" class="wide">Since</th><th scope="col">May sign in</th></tr></thead>
        <tbody>${users.map((user) => html`<tr key=${user.name}><th scope="row">${user.name}${user.federated && html`<br /><span class="soft small">by single sign-on</span>`}
            ${user.name === me.name || user.federated ? limits(user) : html`<${Limit} user=${user} onChange=${(scope) => change(user.name, { scope })} />`}</th>
          <td>${user.name === me.name || user.federated ? user.role : html`<${Roles} label=${html`<span class="unseen">Role of ${user.name}</span>`} value=${user.role} onChange=${(event) => change(user.name, { role: event.target.value })} />`}</td>
          <td class="wide">${clock(user.created)}</td>
          <td>${user.name === me.name ? "yes" : html`<button onClick=${() => change(user.name, { disabled: !user.disabled })}>${user.disabled ? "No: allow" : "Yes: forbid"}<span class="unseen"> ${user.name}</span></button>`}</td></tr>`)}</tbody>
      </table>`}
      <form class="row" style=${{ marginTop: "1rem" }} onSubmit=${add}>
        <label>Name<input name="name" required autocomplete="off" autocapitalize="none" /></label>
        <label>First password<input name="password" type="password" required minlength="12" autocomplete="new-password" /></label>
        <${Roles} /><${Limits} /><button class="primary">Add a user</button>
      </form>
    </section>
    <section class="card"><h2>Tokens</h2>
      <div role="status">${secret && html`<p class="note">The token, shown this once: <code>${secret}</code></p>`}</div>
      ${tokens?.length > 0 && html`<table>
        <thead><tr><th scope="col">For</th><th scope="col">Role</th><th scope="col" class="wide">Used</th><th scope="col">Until</th><th scope="col">Withdraw</th></tr></thead>
        <tbody>${tokens.map((token) => html`<tr key=${token.id}><th scope="row">${token.title}${limits(token)}</th><td>${token.role}</td><td class="wide">${clock(token.used)}</td>
          <td>${clock(token.expires)}</td><td><button class="danger" onClick=${() => act(api("DELETE", `/tokens/${token.id}`))}>Withdraw<span class="unseen"> ${token.title}</span></button></td></tr>`)}</tbody>
      </table>`}
      <form class="row" style=${{ marginTop: "1rem" }} onSubmit=${make}>
        <label>What it is for<input name="title" required maxlength="100" autocomplete="off" /></label>
        <label>Days<input name="days" type="number" min="1" max="3650" defaultValue="365" /></label>
        <${Roles} /><${Limits} /><button class="primary">Make a token</button>
      </form>
    </section>`;
}

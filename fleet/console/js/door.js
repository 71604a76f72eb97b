// Sign-in, and the very first one, which makes the admin.
import { useState } from "../vendor/hooks.js";
import { api, html, Title, Trouble } from "./lib.js";

export function Door({ setup, sso, onSignedIn }) {
  const [trouble, setTrouble] = useState(new URLSearchParams(location.hash.slice(1)).get("refused") || "");
  const [busy, setBusy] = useState(false);
  const code = new URLSearchParams(location.hash.slice(1)).get("setup") || "";

  const send = async (event) => {
    event.preventDefault();
    const given = Object.fromEntries(new FormData(event.target));
    if (setup && given.password !== given.again) return setTrouble("The two passwords differ.");
    delete given.again;
    setBusy(true);
    setTrouble("");
    try {
      const me = await api("POST", setup ? "/setup" : "/session", given);
      if (setup) history.replaceState(null, "", "#fleet");
      onSignedIn(me);
    } catch (error) {
      setTrouble(error.message);
      setBusy(false);
    }
  };
  const kind = setup ? "new-password" : "current-password";
  return html`<main class="door">
    <form class="card stack" onSubmit=${send}>
      <${Title} text=${setup ? "Make the first admin" : "Sign in to the fleet"} />
      ${setup && html`<p class="soft">Nobody can sign in yet. The setup code is in the first words of visavis fleet serve.</p>`}
      ${setup && html`<label>Setup code<input name="code" required autocomplete="off" defaultValue=${code} /></label>`}
      <label>Name<input name="name" required autocomplete="username" autocapitalize="none" /></label>
      <label>Password<input name="password" type="password" required minlength=${setup ? 12 : 1} autocomplete=${kind} /></label>
      ${setup && html`<label>Password again<input name="again" type="password" required autocomplete=${kind} /></label>`}
      ${setup && html`<p class="soft small">At least 12 characters.</p>`}
      <${Trouble} text=${trouble} />
      <button class="primary" disabled=${busy}>${setup ? "Make the admin" : "Sign in"}</button>
      ${sso && html`<p><a href="/api/v1/oidc/start">Sign in with ${sso}</a></p>`}
    </form>
  </main>`;
}

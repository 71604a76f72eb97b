// A new box's certificate, and the files that go to it. The key is shown this once.
import { useEffect, useRef, useState } from "../vendor/hooks.js";
import { api, html, Trouble } from "./lib.js";

function save(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/x-pem-file" }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

export function Enrol({ name = "", onClose }) {
  const dialog = useRef();
  const [files, setFiles] = useState(null);
  const [trouble, setTrouble] = useState("");
  useEffect(() => dialog.current.showModal(), []);
  const send = async (event) => {
    event.preventDefault();
    const given = Object.fromEntries(new FormData(event.target));
    try {
      setFiles((await api("POST", "/devices", { name: given.name, days: Number(given.days), broker: given.broker })).files);
    } catch (error) {
      setTrouble(error.message);
    }
  };
  return html`<dialog ref=${dialog} onClose=${onClose} aria-labelledby="enrol-title">
    <h2 id="enrol-title">${files ? "For the box" : "Enrol a box"}</h2>
    ${files
      ? html`<div class="stack">
          <p>Save these four files and carry them to the box. The key is not kept here: after this it cannot be had again.</p>
          <div class="row" style=${{ marginTop: "1rem" }}>${Object.entries(files).map(
            ([file, text]) => html`<button key=${file} onClick=${() => save(file, text)}>${file}</button>`,
          )}</div>
          <div class="row" style=${{ marginTop: "1rem" }}><button class="primary" onClick=${() => dialog.current.close()}>Done</button></div>
        </div>`
      : html`<form class="stack" onSubmit=${send}>
          <label>Name<input name="name" required maxlength="63" autocomplete="off" autocapitalize="none" defaultValue=${name} readonly=${Boolean(name)} /></label>
          <label>Certificate valid for (days)<input name="days" type="number" min="1" max="3650" defaultValue="730" /></label>
          <label>Broker as the box reaches it (HOST:PORT, empty: this machine's name)<input name="broker" autocomplete="off" /></label>
          <${Trouble} text=${trouble} />
          <div class="row"><button class="primary">Make the certificate</button>
            <button type="button" onClick=${() => dialog.current.close()}>Leave it</button></div>
        </form>`}
  </dialog>`;
}

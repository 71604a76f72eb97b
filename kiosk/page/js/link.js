/**
 * The control socket: JSON both ways, reconnects by itself: at once and often, for a stage that died is back within a second or two.
 * Whether it is back is asked by fetch: Chromium makes a page that opened many sockets in vain wait for seconds before the next one.
 */

const FIRST_MS = 50;
const LONGEST_MS = 2000;
const OFTEN = 60; // times in a row with the first pause
const GROWS = 1.5;
const ANSWER_MS = 1000;
const [BUSY, REPLACED] = [4001, 4002];

export class Link {
  /** @param {(kind: string, message: object) => void} on messages; also "open", "closed", "busy", "replaced" */
  constructor(on) {
    this.on = on;
    this.key = document.querySelector("meta[name=visavis-key]").content;
    // The same through a reload, so that a page does not stand in its own way; another tab has another one.
    this.page = sessionStorage.getItem("page") ?? crypto.randomUUID();
    sessionStorage.setItem("page", this.page);
    this.pause = FIRST_MS;
    this.failures = 0;
    this.boot = null;
  }

  address(path, more = "") {
    return `ws://${location.host}${path}?k=${this.key}&page=${this.page}${more}`;
  }

  open(take = false) {
    const socket = new WebSocket(this.address("/control", take ? "&take=1" : ""));
    this.socket = socket;
    socket.onmessage = ({ data }) => this.receive(JSON.parse(data));
    socket.onclose = ({ code }) => {
      if (socket !== this.socket) return;
      if (code === BUSY) this.on("busy", {});
      else if (code === REPLACED) this.on("replaced", {});
      else this.again();
    };
  }

  receive(message) {
    if (message.t === "setup") {
      this.pause = FIRST_MS;
      this.failures = 0;
      this.boot = message.boot;
    }
    this.on(message.t, message);
  }

  /** The connection was lost: wait until a stage answers, and reload where it is another start of the kiosk, whose key we do not have. */
  async again() {
    this.on("closed", {});
    let alive = null;
    do {
      await new Promise((wake) => setTimeout(wake, this.pause * (0.75 + Math.random() / 2)));
      if (++this.failures > OFTEN) this.pause = Math.min(LONGEST_MS, this.pause * GROWS);
      alive = await fetch("/alive", { cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) }).then((answer) => answer.json()).catch(() => null);
    } while (!alive);
    if (this.boot && alive.boot !== this.boot) location.reload();
    else this.open();
  }

  tell(kind, what = {}) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ t: kind, ...what }));
  }
}

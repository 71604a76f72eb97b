/** The control socket: JSON both ways, reconnects by itself with growing pauses. */

const FIRST_MS = 250;
const LONGEST_MS = 5000;
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

  /** The connection was lost: try again, and reload where another start of the kiosk answers, whose key we do not have. */
  async again() {
    this.on("closed", {});
    await new Promise((wake) => setTimeout(wake, this.pause * (0.75 + Math.random() / 2)));
    this.pause = Math.min(LONGEST_MS, this.pause * 2);
    if (++this.failures > 1) {
      const alive = await fetch("/alive", { cache: "no-store" }).then((answer) => answer.json()).catch(() => null);
      if (alive && alive.boot !== this.boot) location.reload();
    }
    this.open();
  }

  tell(kind, what = {}) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ t: kind, ...what }));
  }
}

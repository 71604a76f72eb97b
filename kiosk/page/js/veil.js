/** The one card that may lie over everything: still there?, connection lost, touch to start, open elsewhere. */

export class Veil {
  /** @param {HTMLElement} home @param {HTMLElement} behind is inert meanwhile */
  constructor(home, behind) {
    this.home = home;
    this.behind = behind;
    const part = (name) => home.querySelector(`#veil-${name}`);
    this.parts = { count: part("count"), title: part("title"), text: part("text"), buttons: part("buttons") };
    this.kind = "";
    this.before = null;
  }

  /** @param {{kind: string, title: string, text: string, count?: string, buttons?: [string, () => void][]} | null} card */
  show(card) {
    if (!card) {
      this.hide();
      return;
    }
    const { count, title, text, buttons } = this.parts;
    count.hidden = !card.count;
    count.textContent = card.count ?? "";
    if (card.kind + card.title === this.kind) return;
    if (!this.kind) this.before = document.activeElement;
    this.kind = card.kind + card.title;
    title.textContent = card.title;
    text.textContent = card.text;
    buttons.replaceChildren(...(card.buttons ?? []).map(([label, act], i) => {
      const button = document.createElement("button");
      button.textContent = label;
      button.className = i ? "" : "primary";
      button.addEventListener("click", act);
      return button;
    }));
    this.home.dataset.kind = card.kind;
    this.home.hidden = false;
    this.behind.inert = true;
    buttons.firstElementChild?.focus();
  }

  hide() {
    if (!this.kind) return;
    this.kind = "";
    this.home.hidden = true;
    this.behind.inert = false;
    if (this.before?.isConnected) this.before.focus();
  }
}

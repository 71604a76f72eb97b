/** What was said: the visitor's words as they are understood, the avatar's as they are heard. Law 3: a word not heard is not shown. */

export class Captions {
  /** @param {{you: HTMLElement, avatar: HTMLElement, live: HTMLElement}} elements */
  constructor(elements, heard) {
    Object.assign(this, elements);
    this.heard = heard;
    this.reset();
  }

  reset() {
    this.turn = 0;
    this.words = []; // [text, start] of the turn that is spoken
    this.shown = 0;
    this.spokenUntil = Infinity;
    for (const element of [this.you, this.avatar, this.live]) element.replaceChildren();
  }

  /** Partial and final words of the visitor: the end that may still change is set apart. */
  visitor({ text, stable, final }) {
    const sure = document.createElement("span");
    const unsure = document.createElement("span");
    unsure.className = "unsure";
    sure.textContent = final ? text : text.slice(0, stable);
    unsure.textContent = final ? "" : text.slice(stable);
    this.you.replaceChildren(sure, unsure);
    if (final && text) this.announce(text);
  }

  say({ turn, words }) {
    if (turn !== this.turn) {
      this.turn = turn;
      this.words = [];
      this.shown = 0;
      this.spokenUntil = Infinity;
      this.avatar.replaceChildren();
    }
    this.words.push(...words);
  }

  /** Show the words that have begun by now; cheap, called for every frame. */
  tick(ms) {
    if (this.shown >= this.words.length) return;
    const heard = this.heard(ms);
    if (heard && heard.turn === this.turn) this.showUntil(heard.index);
  }

  showUntil(index) {
    while (this.shown < this.words.length && this.words[this.shown][1] <= Math.min(index, this.spokenUntil)) {
      this.avatar.append(`${this.shown ? " " : ""}${this.words[this.shown++][0]}`);
      this.avatar.scrollTop = this.avatar.scrollHeight;
    }
  }

  ended({ kind, turn, index }) {
    if (turn !== this.turn || kind === "started") return;
    this.showUntil(kind === "finished" ? Infinity : index);
    this.spokenUntil = kind === "finished" ? Infinity : index;
    if (kind === "stopped") this.words.length = this.shown;
    this.announce(this.avatar.textContent);
  }

  announce(text) {
    if (text) this.live.textContent = text;
  }
}

/** The keyboard on the screen: kiosks have no other. One tab stop, arrow keys inside; a real keyboard works beside it. */

const LAYOUTS = {
  en: ["1234567890", "qwertyuiop", "asdfghjkl'", "zxcvbnm,.?"],
  de: ["1234567890ß", "qwertzuiopü", "asdfghjklöä", "yxcvbnm,.?"],
  fr: ["1234567890'", "azertyuiopé", "qsdfghjklmè", "wxcvbnàç,.?"],
  es: ["1234567890¿", "qwertyuiopá", "asdfghjklñé", "zxcvbnmíóú,.?"],
};

export class Keyboard {
  /** @param {HTMLElement} home @param {HTMLInputElement} field */
  constructor(home, field) {
    this.home = home;
    this.field = field;
    this.shifted = false;
    home.addEventListener("click", ({ target }) => this.press(target.closest("button")));
    home.addEventListener("keydown", (event) => this.move(event));
    // The field keeps the focus of touches, so that its caret stays where it is.
    home.addEventListener("pointerdown", (event) => event.preventDefault());
  }

  build(language, s) {
    this.home.setAttribute("aria-label", s.keys);
    const rows = LAYOUTS[language.split("-")[0]] ?? LAYOUTS.en;
    const row = (keys) => {
      const line = document.createElement("div");
      line.append(...keys);
      return line;
    };
    const letters = rows.map((keys) => [...keys].map((key) => this.key(key, key)));
    letters[3].unshift(this.key("shift", "", s.shift, "shift"));
    letters[3].push(this.key("back", "", s.back, "back"));
    this.home.replaceChildren(...letters.map(row), row([this.key(" ", s.space, s.space, "", "wide")]));
    this.keys[0].tabIndex = 0;
    this.shift(this.field.value === "");
  }

  get keys() {
    return [...this.home.querySelectorAll("button")];
  }

  key(value, text, label = "", icon = "", kind = "") {
    const button = document.createElement("button");
    button.type = "button";
    button.tabIndex = -1;
    button.dataset.key = value;
    button.className = kind;
    if (label) button.setAttribute("aria-label", label);
    if (icon) {
      const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
      use.setAttribute("href", `/icons.svg#${icon}`);
      svg.setAttribute("aria-hidden", "true");
      svg.append(use);
      button.append(svg);
    } else {
      button.textContent = text;
    }
    return button;
  }

  press(button) {
    if (!button) return;
    const { key } = button.dataset;
    const { field } = this;
    const [from, to] = [field.selectionStart, field.selectionEnd];
    if (key === "shift") {
      this.shift(!this.shifted);
      return;
    }
    if (key === "back") field.setRangeText("", from === to ? Math.max(0, from - 1) : from, to, "end");
    else if (field.value.length < field.maxLength) field.setRangeText(this.shifted ? key.toUpperCase() : key, from, to, "end");
    this.shift(field.value === "");
    field.dispatchEvent(new Event("input", { bubbles: true }));
  }

  shift(shifted) {
    this.shifted = shifted;
    for (const button of this.keys) {
      const { key } = button.dataset;
      if (key.length === 1 && key !== " ") button.textContent = shifted ? key.toUpperCase() : key;
      if (key === "shift") button.setAttribute("aria-pressed", String(shifted));
    }
  }

  move(event) {
    const keys = this.keys;
    const at = keys.indexOf(event.target);
    const rows = [...this.home.children].map((row) => [...row.children]);
    const row = rows.findIndex((keys) => keys.includes(event.target));
    if (at < 0) return;
    const column = rows[row].indexOf(event.target);
    const beside = (keys) => keys?.[Math.min(column, keys.length - 1)];
    const next = { ArrowRight: keys[at + 1], ArrowLeft: keys[at - 1], ArrowDown: beside(rows[row + 1]), ArrowUp: beside(rows[row - 1]) }[event.key];
    if (!next) return;
    event.preventDefault();
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }
}

/** What a visitor may set. All of it goes back to the store's defaults with the visit (`reset`). */

const SIZES = 3;

/** Dark or white, whichever can be read on the store's colour. */
function inkOn(color) {
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16) / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  const luminance = 0.2126 * r + 0.7152 * g + 0.0722 * b;
  return 1.05 / (luminance + 0.05) >= 4.5 ? "#ffffff" : "#10181b";
}

export class Settings {
  /** @param {(name: string, value: unknown) => void} changed */
  constructor(changed) {
    this.changed = changed;
    this.defaults = { captions: true, contrast: matchMedia("(prefers-contrast: more)").matches, low: false, hold: false, size: 1, volume: 0.8,
      brightness: 1, still: matchMedia("(prefers-reduced-motion: reduce)").matches };
    this.values = {};
  }

  get(name) {
    return this.values[name];
  }

  set(name, value) {
    if (this.values[name] === value) return;
    this.values[name] = value;
    document.body.dataset[name] = String(value);
    this.changed(name, value);
  }

  step(name, by) {
    const value = this.values[name] + by;
    this.set(name, name === "size" ? Math.min(SIZES, Math.max(1, value)) : Math.min(1, Math.max(0, Math.round(value * 10) / 10)));
  }

  /** The store's default: it holds at once unless the visitor has set something else. */
  usual(name, value) {
    const untouched = this.values[name] === this.defaults[name];
    this.defaults[name] = value;
    if (untouched) this.set(name, value);
  }

  reset() {
    for (const [name, value] of Object.entries(this.defaults)) this.set(name, value);
  }

  /** The store's look. */
  brand({ accent }) {
    document.documentElement.style.setProperty("--accent", accent);
    document.documentElement.style.setProperty("--on-accent", inkOn(accent));
  }
}

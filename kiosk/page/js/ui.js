/** The screen: what is shown when, and what touches mean. Knows nothing of sockets and sound. */

import { Captions } from "./captions.js";
import { Keyboard } from "./keyboard.js";
import { Settings } from "./settings.js";
import { LANGUAGES, strings } from "./strings.js";
import { Veil } from "./veil.js";
import { renderCard } from "./card.js";

const $ = (id) => document.getElementById(id);
const OFFLINE_AFTER_MS = 3000; // a stage that is started again is back before
const STAY_EVERY_MS = 10000;
const FRESH_MS = 3000; // words older than this begin no visit
const TAP_MS = 1500; // a longer touch is no tap: nothing is clicked where the finger leaves
const CARD_KEYS = ["Tab", "Shift", "Enter", " "]; // they work the card that lies over the page: the button says what is meant

export class Ui {
  /**
   * @param {(kind: string, text?: string) => void} input to the stage
   * @param {{heard: Function, setting: Function, microphone: Function, start: Function, take: Function}} act
   */
  constructor(input, act) {
    this.input = input;
    this.act = act;
    this.captions = new Captions({ you: $("you"), avatar: $("avatar"), live: $("live") }, act.heard);
    this.settings = new Settings((name, value) => this.onSetting(name, value));
    this.keyboard = new Keyboard($("keys"), $("typed"));
    this.veil = new Veil($("veil"), $("kiosk"));
    this.floor = { posture: "idle", session: "attract", visit: null, wipe_in_ms: -1 };
    this.setupMessage = { languages: ["en"], suggestions: [], brand: {}, persona: "" };
    this.notices = new Map();
    this.answers = [];
    this.early = null; // the newest words said before a visit, and when they came
    this.link = "closed";
    this.linkSince = performance.now();
    this.needsGesture = false;
    this.tapEnds = 0; // until then what lies under the finger stays there
    this.micState = "off";
    this.acknowledged = false;
    this.stayed = 0;
    this.language = this.usualLanguage = "en";
    this.bind();
    this.settings.reset();
    this.speak("en");
    setInterval(() => this.updateVeil(), 250);
  }

  // --- what the stage says

  setup(message) {
    this.setupMessage = message;
    this.settings.brand(message.brand);
    $("brand").textContent = message.brand.title;
    $("brand").classList.toggle("unseen", Boolean(message.brand.logo));
    $("logo").hidden = !message.brand.logo;
    if (message.brand.logo) $("logo").src = message.brand.logo;
    document.title = message.brand.title;
    document.documentElement.style.setProperty("--backdrop", message.brand.background || "");
    this.notices.clear();
    this.buildLanguages();
    this.house(message.house);
    this.speak(message.languages.includes(this.language) ? this.language : this.usualLanguage);
  }

  /** The store's defaults. What a visitor has changed stays so until the wipe. */
  house({ volume, brightness, language }) {
    this.settings.usual("volume", 0.8 * volume);
    this.settings.usual("brightness", brightness);
    const untouched = this.language === this.usualLanguage;
    this.usualLanguage = language;
    if (untouched) this.speak(language);
  }

  onFloor(floor) {
    const wiped = this.floor.visit !== null && floor.visit !== this.floor.visit;
    const begins = this.floor.session === "attract" && floor.session !== "attract";
    this.floor = { ...floor, since: performance.now() };
    if (wiped) this.wipe();
    if (begins) this.begin();
    document.body.dataset.session = floor.session;
    document.body.dataset.posture = floor.posture;
    this.update();
    this.updateVeil();
  }

  /** Everybody near the kiosk is understood; what they say is kept from the next visitor unless it begins the visit. */
  words(message) {
    if (this.floor.session === "attract") this.early = { message, since: performance.now() };
    else if (this.floor.posture !== "speaking") this.captions.visitor(message);
  }

  reply({ card, answers }) {
    if (card) renderCard($("card"), card, this.s);
    this.answers = answers;
    this.updateChoices();
  }

  notice({ code, text, audience }) {
    if (text) this.notices.set(code, { text, audience });
    else this.notices.delete(code);
    this.updateNotices();
  }

  // --- state of the page

  setLink(state) {
    if (state === this.link) return;
    this.link = state;
    this.linkSince = performance.now();
    this.updateVeil();
  }

  /** How long there has been no connection, ms. */
  get offlineMs() {
    return this.link === "open" ? 0 : performance.now() - this.linkSince;
  }

  /** What the page itself has to tell a technician; "" nothing. */
  trouble(text) {
    if ((this.notices.get("page")?.text ?? "") !== text) this.notice({ code: "page", text, audience: "technician" });
  }

  setGesture(needed) {
    this.needsGesture = needed;
    this.updateVeil();
  }

  setMicrophone(state) {
    this.micState = state;
    document.body.dataset.mic = state;
    this.update();
  }

  setFace(state) {
    document.body.dataset.face = state;
    this.update();
  }

  /** A visit begins: its own first words may have come before the floor said so, and are being answered or still spoken now. */
  begin() {
    const { early } = this;
    this.early = null;
    const theirs = ["listening", "thinking"].includes(this.floor.posture);
    if (early && theirs && performance.now() - early.since < FRESH_MS) this.captions.visitor(early.message);
  }

  /** The visit is over: nothing of it stays on the screen. */
  wipe() {
    this.captions.reset();
    this.early = null;
    this.answers = [];
    this.acknowledged = false;
    $("typed").value = "";
    $("card").replaceChildren();
    $("card").hidden = true;
    for (const [code, { audience }] of this.notices) if (audience === "visitor" && code.startsWith("staff")) this.notices.delete(code);
    this.closePanels(false);
    this.settings.reset();
    this.speak(this.usualLanguage);
    this.act.microphone(true);
    document.activeElement?.blur?.();
  }

  // --- drawing it

  speak(tag) {
    this.language = tag;
    this.s = strings(tag);
    document.documentElement.lang = this.s === strings("en") ? "en" : tag;
    for (const element of document.querySelectorAll("[data-s]")) element.textContent = this.s[element.dataset.s];
    for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", this.s[element.dataset.label]);
    $("you").lang = $("avatar").lang = $("live").lang = tag;
    $("face").setAttribute("aria-label", this.s.face);
    $("sheet").setAttribute("aria-label", this.s.conversation);
    $("controls").setAttribute("aria-label", this.s.controls);
    $("welcome-title").textContent = this.s.welcome;
    $("welcome-text").textContent = this.s.welcomeText;
    $("size-now").textContent = this.s.size[this.settings.get("size") - 1];
    this.keyboard.build(tag, this.s);
    for (const button of document.querySelectorAll("[data-language]")) button.setAttribute("aria-pressed", String(button.dataset.language === tag));
    this.update();
    this.updateNotices();
    this.veil.kind && this.updateVeil();
  }

  buildLanguages() {
    const known = this.setupMessage.languages;
    for (const home of [$("languages"), $("languages-first")]) {
      home.replaceChildren(...known.map((tag) => {
        const button = document.createElement("button");
        button.dataset.language = tag;
        button.lang = tag;
        button.textContent = LANGUAGES[tag.split("-")[0]] ?? tag;
        button.addEventListener("click", () => {
          this.speak(tag);
          this.input("language", tag);
          this.closePanels();
        });
        return button;
      }));
    }
    $("languages-first").hidden = known.length < 2;
  }

  update() {
    const { session, posture } = this.floor;
    const attract = session === "attract";
    $("welcome").hidden = !attract;
    $("notice-card").hidden = attract || this.acknowledged;
    $("captions").hidden = attract || !this.settings.get("captions");
    $("posture-text").textContent = this.s[document.body.dataset.face === "stale" ? "paused" : posture];
    $("mic-text").textContent = this.micState === "on" ? this.s.micOn : this.s.micOff;
    $("mic-light").querySelector("use").setAttribute("href", `/icons.svg#${this.micState === "on" ? "mic" : "mic-off"}`);
    $("hold").hidden = attract || !this.settings.get("hold") || this.micState !== "on";
    this.updateChoices();
  }

  updateChoices() {
    const offered = this.floor.session === "attract" ? [] : this.answers.length ? this.answers : this.setupMessage.suggestions;
    const key = JSON.stringify([offered, this.language]);
    if (key === this.choicesKey) return;
    this.choicesKey = key;
    $("choices").replaceChildren(...offered.map(({ label, text }) => {
      const button = document.createElement("button");
      button.className = "choice";
      button.textContent = label || this.s[text] || text;
      if (label) button.lang = this.setupMessage.languages[0];
      button.addEventListener("click", () => this.choose(text, button.textContent));
      return button;
    }));
  }

  updateNotices() {
    const rows = [...this.notices].map(([code, { text, audience }]) => {
      const row = document.createElement("li");
      row.className = audience;
      row.textContent = this.s[code] ?? text;
      return row;
    });
    const lines = this.setupMessage.notices ?? [];
    $("notices").replaceChildren(...lines.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
    $("lines").replaceChildren(...rows.length ? [Object.assign(document.createElement("ul"), {})] : []);
    $("lines").firstElementChild?.append(...rows);
  }

  updateVeil() {
    if (performance.now() < this.tapEnds) return;
    this.veil.show(this.veilCard());
  }

  veilCard() {
    const { s, floor } = this;
    if (this.link === "busy") return { kind: "busy", title: s.busyTitle, text: s.busyText, buttons: [[s.take, () => this.act.take()]] };
    if (this.link === "replaced") return { kind: "replaced", title: s.replacedTitle, text: s.replacedText, buttons: [[s.takeBack, () => this.act.take()]] };
    if (this.offlineMs > OFFLINE_AFTER_MS) return { kind: "offline", title: s.offline, text: s.offlineText };
    if (this.needsGesture) return { kind: "start", title: s.startTitle, text: s.startText, buttons: [[s.start, () => this.act.start()]] };
    if (floor.session === "still_there") {
      const left = floor.wipe_in_ms < 0 ? -1 : Math.max(0, floor.wipe_in_ms - (performance.now() - floor.since));
      return { kind: "still", title: s.stillThere, text: s.stillThereText, count: left < 0 ? "" : s.seconds(Math.ceil(left / 1000)),
        buttons: [[s.stay, () => this.input("stay")], [s.startOver, () => this.input("start_over")]] };
    }
    return null;
  }

  // --- what touches mean

  choose(text, label) {
    this.captions.visitor({ text: label, stable: 0, final: true });
    this.answers = [];
    this.input("touch", text);
  }

  onSetting(name, value) {
    for (const [id, key] of [["captions", "captions"], ["contrast", "contrast"], ["low", "low"], ["still", "still"], ["hold", "hold"]])
      if (key === name) $(`sw-${id}`).setAttribute("aria-checked", String(value));
    if (name === "size" && this.s) $("size-now").textContent = this.s.size[value - 1];
    if (name === "volume") $("volume-level").value = String(Math.round(value * 100));
    if (name === "brightness") document.body.style.setProperty("--shade", String(1 - value));
    this.act.setting(name, value);
    if (this.s) this.update();
  }

  panel(name) {
    const panel = $(`panel-${name}`);
    const open = panel.hidden;
    this.closePanels(false);
    if (!open) return;
    panel.hidden = false;
    $(name).setAttribute("aria-expanded", "true");
    (name === "type" ? $("typed") : panel.querySelector("button, input")).focus();
  }

  closePanels(refocus = true) {
    for (const panel of document.querySelectorAll(".panel:not([hidden])")) {
      const button = $(panel.id.replace("panel-", ""));
      panel.hidden = true;
      button.setAttribute("aria-expanded", "false");
      if (refocus) button.focus();
    }
  }

  stop() {
    this.input("stop");
    this.closePanels();
  }

  bind() {
    const on = (id, act) => $(id).addEventListener("click", act);
    // A touch in the attract screen begins a visit, so that what it changes is wiped with one.
    $("kiosk").addEventListener("click", ({ target }) => {
      if (target.closest("button, input") && this.floor.session === "attract") this.input("presence", "here");
    }, true);
    on("talk", () => this.act.microphone(true));
    on("type-first", () => this.panel("type"));
    on("stop", () => this.stop());
    for (const name of ["type", "display", "volume", "language"]) on(name, () => this.panel(name));
    on("staff", () => {
      this.notice({ code: "staff", text: this.s.calling, audience: "visitor" });
      this.input("call_staff");
    });
    on("over", () => this.input("start_over"));
    on("notice-ok", () => this.acknowledge(true));
    on("notice-no-mic", () => this.acknowledge(false));
    for (const name of ["captions", "contrast", "low", "still", "hold"]) on(`sw-${name}`, () => this.settings.set(name, !this.settings.get(name)));
    on("smaller", () => this.settings.step("size", -1));
    on("larger", () => this.settings.step("size", 1));
    on("quieter", () => this.settings.step("volume", -0.1));
    on("louder", () => this.settings.step("volume", 0.1));
    $("volume-level").addEventListener("input", ({ target }) => this.settings.set("volume", target.value / 100));
    for (const button of document.querySelectorAll(".panel .close")) button.addEventListener("click", () => this.closePanels());
    $("type-form").addEventListener("submit", (event) => this.send(event));
    this.bindHold();
    document.addEventListener("keydown", (event) => this.onKey(event), true);
    // What a touch began on it ends on, a card or the page: until the click no card comes, goes or becomes another one.
    document.addEventListener("pointerdown", () => (this.tapEnds = performance.now() + TAP_MS), true);
    document.addEventListener("click", () => {
      this.tapEnds = 0;
      this.updateVeil();
    });
    document.addEventListener("pointerdown", () => this.veil.kind || this.onActivity(), true);
    // Under the finger the card must not go away: only a whole touch beside its buttons says that somebody is there.
    document.addEventListener("click", ({ target }) => this.veil.kind && !target.closest("#veil-buttons button") && this.onActivity(), true);
  }

  acknowledge(microphone) {
    this.acknowledged = true;
    this.act.microphone(microphone);
    this.update();
    $("stop").focus();
  }

  send(event) {
    event.preventDefault();
    const text = $("typed").value.trim();
    if (!text) return;
    $("typed").value = "";
    this.keyboard.shift(true);
    this.captions.visitor({ text, stable: 0, final: true });
    this.answers = [];
    this.input("typed", text);
    this.closePanels();
  }

  bindHold() {
    const hold = (down) => {
      $("hold").classList.toggle("down", down);
      this.act.hold(down);
    };
    $("hold").addEventListener("pointerdown", () => hold(true));
    for (const name of ["pointerup", "pointercancel", "pointerleave", "blur"]) $("hold").addEventListener(name, () => hold(false));
    $("hold").addEventListener("keydown", ({ key }) => [" ", "Enter"].includes(key) && hold(true));
    $("hold").addEventListener("keyup", ({ key }) => [" ", "Enter"].includes(key) && hold(false));
  }

  onKey(event) {
    if (!(this.veil.kind && CARD_KEYS.includes(event.key))) this.onActivity();
    // A held Enter presses once: where the button goes away, the one that has the focus then is not meant.
    if (event.repeat && event.key === "Enter" && event.target.closest("button")) event.preventDefault();
    if (event.key === "Escape" && this.link === "open") {
      event.preventDefault();
      this.stop();
    }
  }

  /** Hands on the kiosk are a visitor who is still there. */
  onActivity() {
    const now = performance.now();
    if (this.floor.session === "attract" || (this.floor.session === "engaged" && now - this.stayed < STAY_EVERY_MS)) return;
    this.stayed = now;
    this.input("stay");
  }
}

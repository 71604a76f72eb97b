/** Joins the parts: one control socket, one media worker, one voice, one microphone, one face, one screen. */

import { Face } from "./face.js";
import { Link } from "./link.js";
import { Mic } from "./mic.js";
import { Ui } from "./ui.js";
import { Voice } from "./voice.js";

const BEAT_MS = 1000;
const GESTURE_AFTER_MS = 800;
const MEDIA_RETRY_MS = 500;
const VOICE_RETRY_MS = 3000;
const LASTS_MS = 5000; // what a visitor need not know, a technician is told when it lasts
const WORKER = "/js/worker.js";

const asked = new URLSearchParams(location.search);
const policy = window.trustedTypes?.createPolicy("visavis", { createScriptURL: (url) => {
  if (url !== WORKER) throw new TypeError("no other script");
  return url;
} });
const worker = new Worker(policy ? policy.createScriptURL(WORKER) : WORKER, { type: "module" });
const [canvas, video, rest, still] = ["face", "face-video", "rest", "still"].map((id) => document.getElementById(id));

let voice = null;
let mute = ""; // why there is no voice
let offsetMs = 0; // the sound is heard so much later than the browser knows
const tell = (kind, what) => link.tell(kind, what);
const heard = (ms) => voice?.heard(ms - offsetMs) ?? null;
const face = new Face({ canvas, video, rest, still }, heard, tell, asked.has("probe"));
const mic = new Mic(tell, (what, given) => worker.postMessage({ k: "mic", ...what }, [given]));
const ui = new Ui((kind, text = "") => tell("input", { kind, text }), {
  heard,
  setting: onSetting,
  microphone: (on) => (on ? mic.start() : mic.stop()),
  hold: (down) => mic.mute(!down),
  start: gesture,
  take: () => link.open(true),
});
const link = new Link(onMessage);

const HANDLERS = {
  setup: onSetup,
  pack: (message) => ui.setup(message), // another one serves; sound and picture go on
  house: (message) => ui.house(message),
  floor: (message) => ui.onFloor(message),
  words: (message) => ui.words(message),
  say: (message) => ui.captions.say(message),
  heard: (message) => ui.captions.ended(message),
  reply: (message) => ui.reply(message),
  notice: (message) => ui.notice(message),
  flush: ({ turn }) => face.flush(turn),
  play: (message) => voice && (voice.virtual = message),
  ping: ({ id, offset_ms }) => {
    tell("pong", { id, ms: performance.now() });
    face.offsetMs = offset_ms;
  },
  reload: () => location.reload(),
  busy: () => ui.setLink("busy"),
  replaced: () => ui.setLink("replaced"),
  closed: () => {
    ui.setLink("closed");
    face.offsetMs = 0;
  },
};

function onMessage(kind, message) {
  HANDLERS[kind]?.(message);
}

function onSetup(message) {
  ui.setup(message);
  offsetMs = message.av_offset_ms;
  mic.autoGain = message.auto_gain;
  ui.setLink("open");
  tell("hello", { lang: navigator.language, probe: asked.has("probe") });
  openMedia();
  if (listens) mic.announce();
  if (voice) voice.tellState();
  else beginVoice(message.rate);
}

let beginning = false;
let voiceRetry = 0;
let listens = false; // the microphone was asked for: from then on the visitor may have switched it off

/** There is a voice once its worklet is loaded. Where that fails (the stage may have died meanwhile) it is said, and tried again. */
async function beginVoice(rate) {
  if (beginning) return;
  beginning = true;
  clearTimeout(voiceRetry);
  let made = null;
  try {
    made = new Voice(rate, tell);
    const port = await made.start();
    worker.postMessage({ k: "voice", port }, [port]);
    voice = made;
    voice.setVolume(ui.settings.get("volume"));
    voice.tellState();
    setTimeout(() => ui.setGesture(!voice.running), GESTURE_AFTER_MS);
  } catch (error) {
    mute = String(error);
    made?.context.close();
    voiceRetry = setTimeout(() => beginVoice(rate), VOICE_RETRY_MS);
  }
  beginning = false;
  ui.notice({ code: "page-voice", text: voice ? "" : ui.s["no-voice"], audience: "visitor" });
  if (listens) return;
  listens = true;
  mic.start();
}

let mediaRetry = 0;

function openMedia() {
  clearTimeout(mediaRetry);
  mediaRetry = 0;
  worker.postMessage({ k: "open", audio: link.address("/audio"), video: link.address("/video") });
}

function onSetting(name, value) {
  if (name === "volume") voice?.setVolume(value);
  if (name === "still") face.freeze(value);
  if (name === "hold") mic.mute(value);
}

function gesture() {
  voice?.resume();
  mic.resume();
  setTimeout(() => ui.setGesture(voice !== null && !voice.running), 200);
}

worker.onmessage = ({ data }) => {
  if (data.k === "frame") face.take(data);
  else if (!data.open && !mediaRetry) mediaRetry = setTimeout(() => (mediaRetry = 0, ui.link === "open" && openMedia()), MEDIA_RETRY_MS);
};

mic.onstate = () => ui.setMicrophone(mic.state);
face.onstate = (state) => ui.setFace(state);
// A finger that goes down is no gesture to a browser; the click that becomes of it is.
for (const name of ["pointerdown", "click", "keydown"]) document.addEventListener(name, () => voice && !voice.running && gesture(), true);

(function captions() {
  ui.captions.tick(performance.now());
  requestAnimationFrame(captions);
})();

setInterval(() => {
  ui.trouble(ui.offlineMs > LASTS_MS ? "No connection to the kiosk's own service: it is tried again and again; see its log"
    : !voice && mute ? `The voice cannot begin in this page, it is tried again and again: ${mute}`
    : ui.link === "open" && face.waitedMs > LASTS_MS ? "No pictures come from the renderer: the face only rests; see its log" : "");
  tell("beat", {
    ...face.stats(),
    audio: voice?.context.state ?? "",
    underruns: voice?.underruns ?? 0,
    state: `${ui.floor.session}/${ui.floor.posture}`,
    heap_mb: (performance.memory?.usedJSHeapSize ?? 0) / 1e6,
  });
}, BEAT_MS);

// On the kiosk's own screen nothing of the browser may answer: no shortcut opens a window, no long press a menu.
if (asked.has("kiosk")) {
  document.body.dataset.kiosk = "true";
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || /^F\d+$/.test(event.key)) event.preventDefault();
  }, true);
}
for (const name of ["contextmenu", "dragstart"]) document.addEventListener(name, (event) => event.preventDefault());

link.open();

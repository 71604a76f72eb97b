/**
 * The microphone, with the browser's echo canceller. Finds it again when it was unplugged.
 * The worker reads the track's frames itself (MediaStreamTrackProcessor) and brings them to 16 kHz. A browser without that takes a second
 * AudioContext of 16 kHz and a worklet; there every glitch of the output leaves samples queued, so the sound comes later and later.
 */

const RATE = 16000;
const RETRY_MS = 5000;

/**
 * What is held back beyond the device's own latency, measured against the recording of a rehearsal's room: by echo canceller, frames and
 * filter, and by a fresh graph. (The frames carry times, too; under load those wander while the sound keeps its pace.)
 */
const FRAMES_MS = 26;
const GRAPH_MS = 35;

/** The track's frames where the browser gives them (for sound: Chromium), else null. */
function framesOf(track) {
  try {
    return new MediaStreamTrackProcessor({ track, maxBufferSize: 50 }).readable;
  } catch {
    return null;
  }
}

export class Mic {
  /**
   * @param {(kind: string, what: object) => void} tell to the stage
   * @param {(what: object, given: Transferable) => void} connect gives the worker its end: `frames` or `port`
   */
  constructor(tell, connect) {
    this.tell = tell;
    this.connect = connect;
    this.context = null;
    this.stream = null;
    this.source = null;
    this.rate = 0;
    this.state = "off";
    this.wanted = true;
    this.muted = false;
    this.autoGain = true;
    this.onstate = () => {};
    navigator.mediaDevices?.addEventListener("devicechange", () => this.retry());
    setInterval(() => this.retry(), RETRY_MS);
  }

  async start() {
    this.wanted = true;
    if (this.stream || this.starting) return;
    this.starting = true;
    try {
      await this.open();
    } catch (error) {
      this.close();
      this.set(error.name === "NotAllowedError" || error.name === "SecurityError" ? "denied" : "unplugged");
    } finally {
      this.starting = false;
    }
  }

  async open() {
    const audio = { noiseSuppression: true, autoGainControl: this.autoGain, channelCount: 1 };
    const get = (echoCancellation) => navigator.mediaDevices.getUserMedia({ audio: { ...audio, echoCancellation } });
    // "all" also cancels what this page plays through AudioContext; browsers that do not know the word refuse it.
    this.stream = await get({ exact: "all" }).catch((error) => {
      if (error.name === "NotAllowedError") throw error;
      return get(true);
    });
    const track = this.stream.getAudioTracks()[0];
    track.onended = () => this.lost();
    track.enabled = !this.muted;
    const settings = track.getSettings();
    const latencyMs = (settings.latency ?? 0.01) * 1000;
    const frames = framesOf(track);
    this.rate = frames ? RATE : await this.graph(latencyMs + GRAPH_MS);
    if (frames) this.connect({ frames, latencyMs: latencyMs + FRAMES_MS }, frames);
    this.set("on", { rate: this.rate, echo: String(settings.echoCancellation) });
  }

  /** The way of other browsers; returns the rate that its samples have. */
  async graph(latencyMs) {
    if (!this.context) {
      this.context = new AudioContext({ sampleRate: RATE });
      await this.context.audioWorklet.addModule("/js/microphone.js");
    }
    const node = new AudioWorkletNode(this.context, "visavis-microphone", { numberOfOutputs: 0 });
    const { port1, port2 } = new MessageChannel();
    node.port.postMessage({ port: port1 }, [port1]);
    this.connect({ port: port2, latencyMs }, port2);
    this.source = this.context.createMediaStreamSource(this.stream);
    this.source.connect(node);
    return this.context.sampleRate;
  }

  set(state, what = {}) {
    const changed = state !== this.state;
    this.state = state;
    if (changed || state === "on") this.tell("mic", { state, ...what });
    if (changed) this.onstate();
  }

  lost() {
    this.close();
    this.set("unplugged");
  }

  close() {
    this.source?.disconnect();
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.source = this.stream = null;
  }

  /** The visitor does not want it. */
  stop() {
    this.wanted = false;
    this.close();
    this.set("off");
  }

  retry() {
    if (this.wanted && !this.stream && this.state !== "off") this.start();
  }

  /** Silence instead of sound, without giving the device back: for "hold to talk". */
  mute(muted) {
    this.muted = muted;
    for (const track of this.stream?.getTracks() ?? []) track.enabled = !muted;
  }

  resume() {
    if (this.context?.state === "suspended") this.context.resume();
  }

  /** Tell a stage that has just been (re)connected. */
  announce() {
    this.tell("mic", { state: this.state, rate: this.rate, echo: String(this.stream?.getAudioTracks()[0]?.getSettings().echoCancellation ?? "") });
  }
}

/** The microphone: 16 kHz by a second AudioContext, with the browser's echo canceller. Finds it again when it was unplugged. */

const RATE = 16000;
const RETRY_MS = 5000;

/** What echo canceller and audio graph hold back beyond the device's own latency: measured in rehearsals against room.wav. */
const CHAIN_MS = 35;

export class Mic {
  /**
   * @param {(kind: string, what: object) => void} tell to the stage
   * @param {(port: MessagePort, latencyMs: number) => void} connect gives the worker its end
   */
  constructor(tell, connect) {
    this.tell = tell;
    this.connect = connect;
    this.context = null;
    this.stream = null;
    this.node = null;
    this.source = null;
    this.state = "off";
    this.wanted = true;
    this.muted = false;
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
    const audio = { noiseSuppression: true, autoGainControl: true, channelCount: 1 };
    const get = (echoCancellation) => navigator.mediaDevices.getUserMedia({ audio: { ...audio, echoCancellation } });
    // "all" also cancels what this page plays through AudioContext; browsers that do not know the word refuse it.
    this.stream = await get({ exact: "all" }).catch((error) => {
      if (error.name === "NotAllowedError") throw error;
      return get(true);
    });
    const track = this.stream.getAudioTracks()[0];
    track.onended = () => this.lost();
    const settings = track.getSettings();
    if (!this.context) {
      this.context = new AudioContext({ sampleRate: RATE });
      await this.context.audioWorklet.addModule("/js/microphone.js");
    }
    this.node = new AudioWorkletNode(this.context, "visavis-microphone", { numberOfOutputs: 0 });
    const { port1, port2 } = new MessageChannel();
    this.node.port.postMessage({ port: port1, muted: this.muted }, [port1]);
    this.connect(port2, (settings.latency ?? 0.01) * 1000 + CHAIN_MS);
    this.source = this.context.createMediaStreamSource(this.stream);
    this.source.connect(this.node);
    this.set("on", { rate: this.context.sampleRate, echo: String(settings.echoCancellation) });
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
    this.source = this.node = this.stream = null;
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
    this.node?.port.postMessage({ muted });
  }

  resume() {
    if (this.context?.state === "suspended") this.context.resume();
  }

  /** Tell a stage that has just been (re)connected. */
  announce() {
    this.tell("mic", { state: this.state, rate: this.context?.sampleRate ?? 0, echo: String(this.stream?.getAudioTracks()[0]?.getSettings().echoCancellation ?? "") });
  }
}

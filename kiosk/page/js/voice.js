/**
 * The loudspeaker. The page plays the voice itself, through the default output, so that Chromium's echo canceller knows it.
 * `heard(ms)` says which sample of the speech ring is heard at a time of performance.now().
 */

const REPORT_MS = 30;
const JUMP_MS = 20; // a step of the output clock this large is real (device change, underrun): follow it at once
const SMOOTHING = 0.05;
const SEGMENTS = 16;

export class Voice {
  /** @param {(kind: string, what: object) => void} tell to the stage */
  constructor(rate, tell) {
    this.rate = rate;
    this.tell = tell;
    this.context = new AudioContext({ sampleRate: rate, latencyHint: "interactive" });
    this.volume = this.context.createGain();
    this.volume.connect(this.context.destination);
    this.segments = []; // {turn, index, frame, end}: from context frame `frame` on, `index` … is emitted; end: frame behind the last
    this.clock = null; // ms of performance.now() at context time 0, as heard
    this.virtual = null; // {turn, index, ms, playing}: the stage plays to nobody, by its own clock
    this.underruns = 0;
    this.reporting = false;
    this.told = { segment: null, index: 0 }; // the last playhead that the stage was told
  }

  /** Start the worklet; returns the port that takes the stage's voice messages. */
  async start() {
    await this.context.audioWorklet.addModule("/js/player.js");
    const node = new AudioWorkletNode(this.context, "visavis-player", { numberOfInputs: 0, outputChannelCount: [1] });
    node.connect(this.volume);
    node.port.onmessage = ({ data }) => this.onWorklet(data);
    const { port1, port2 } = new MessageChannel();
    node.port.postMessage({ port: port1 }, [port1]);
    setInterval(() => this.report(), REPORT_MS);
    this.context.onstatechange = () => this.tellState();
    return port2;
  }

  get running() {
    return this.context.state === "running";
  }

  tellState() {
    this.tell("sound", { running: this.running, latency_ms: (this.context.outputLatency || 0) * 1000 });
  }

  /** Call it inside a gesture: an ordinary browser plays nothing before one. */
  resume() {
    if (!this.running) this.context.resume();
  }

  setVolume(level) {
    this.volume.gain.setTargetAtTime(level, this.context.currentTime, 0.02);
  }

  onWorklet(event) {
    this.tick();
    if (event.k === "at") {
      const last = this.segments.at(-1);
      if (last && last.end === null) last.end = event.frame;
      this.segments.push({ turn: event.turn, index: event.index, frame: event.frame, end: null });
      if (this.segments.length > SEGMENTS) this.segments.shift();
      this.virtual = null;
      this.tell("started", { turn: event.turn, index: event.index, ms: this.msOf(event.frame) });
    } else if (event.k === "gain") {
      this.tell("ducked", { gain: event.gain, ms: this.msOf(event.frame) });
    } else {
      const last = this.segments.at(-1);
      if (last && last.end === null) last.end = event.frame;
      if (event.k === "silent") this.tell("silent", { turn: event.turn, index: event.index, ms: this.msOf(event.frame) });
      if (event.k === "dry") this.underruns++;
    }
  }

  /** Follow the output's clock: smoothly, because single readings jitter. */
  tick() {
    const { contextTime, performanceTime } = this.context.getOutputTimestamp();
    if (!this.running) return;
    // Until the device runs the timestamp is zero, and would be wrong by seconds.
    const now = contextTime > 0 ? performanceTime - contextTime * 1000
      : performance.now() - (this.context.currentTime - (this.context.outputLatency || 0.04)) * 1000;
    if (this.clock === null || Math.abs(now - this.clock) > JUMP_MS) this.clock = now;
    else this.clock += SMOOTHING * (now - this.clock);
  }

  msOf(frame) {
    return (this.clock ?? performance.now()) + (frame / this.rate) * 1000;
  }

  /** What is heard at `ms`: {turn, index, playing, segment}, or null before anything was played; no segment while the stage plays. */
  heard(ms) {
    if (this.virtual) {
      const { turn, index, ms: since, playing } = this.virtual;
      return { turn, index: playing ? index + Math.max(0, ((ms - since) * this.rate) / 1000) : index, playing };
    }
    if (this.clock === null) return null;
    const frame = ((ms - this.clock) * this.rate) / 1000;
    const segment = this.segments.findLast((one) => one.frame <= frame);
    if (!segment) return null;
    const end = segment.end ?? Infinity;
    return { turn: segment.turn, index: segment.index + Math.min(frame, end) - segment.frame, playing: frame < end, segment };
  }

  report() {
    this.tick();
    if (!this.running || this.virtual) return;
    const now = performance.now();
    const heard = this.heard(now);
    if (!heard || !(heard.playing || this.reporting)) return;
    this.reporting = heard.playing; // one last report when it ends
    // Where the clock was set back, the playhead waits for it: what was heard stays heard.
    const index = heard.segment === this.told.segment ? Math.max(heard.index, this.told.index) : heard.index;
    this.told = { segment: heard.segment, index };
    this.tell("playhead", { turn: heard.turn, index, ms: now, playing: heard.playing });
  }
}

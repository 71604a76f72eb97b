/**
 * AudioWorklet: plays PCM with absolute speech-ring indices, as it comes from the worker's port.
 * Tells the main thread which context frame carries which index; the levels change in ramps, a flush fades within 5 ms.
 */

const START_S = 0.04; // enough to survive one late message; a shorter utterance starts when its end is known
const RAMP_S = 0.01;
const FADE_S = 0.005;

class Player extends AudioWorkletProcessor {
  constructor() {
    super();
    this.queue = []; // {turn, index, pcm}
    this.at = 0; // samples of queue[0] already played
    this.buffered = 0;
    this.playing = false;
    this.ended = null; // {turn, index} once everything of the turn has been sent
    this.turn = 0;
    this.next = -1; // index of the next sample
    this.level = 1;
    this.target = 1;
    this.step = 0;
    this.told = 1; // level that the main thread knows
    this.fade = -1; // samples left of a flush
    this.flushed = 0;
    this.port.onmessage = ({ data }) => {
      data.port.onmessage = ({ data: message }) => this.take(message);
    };
  }

  take({ kind, value, turn, index, pcm }) {
    if (kind === 1) {
      if (turn <= this.flushed) return;
      this.queue.push({ turn, index, pcm });
      this.buffered += pcm.length;
    } else if (kind === 2) {
      this.flushed = Math.max(this.flushed, turn);
      if (this.playing && this.turn <= turn) this.fade = Math.round(FADE_S * sampleRate);
      else this.drop(turn, currentFrame);
    } else if (kind === 3) {
      this.target = value / 1000;
      this.step = (this.target - this.level) / (RAMP_S * sampleRate);
      if (!this.step) return;
      this.told = this.target;
      this.port.postMessage({ k: "gain", gain: this.target, frame: currentFrame });
    } else if (kind === 4) {
      this.ended = { turn, index };
    }
  }

  /** Throw away the flushed turn; frame: the context frame at which it became silent. */
  drop(turn, frame) {
    const known = this.turn <= turn && this.next >= 0 ? this.next : -1;
    this.port.postMessage({ k: "silent", turn, index: known, frame });
    this.queue = this.queue.filter((chunk) => chunk.turn > turn);
    this.buffered = this.queue.reduce((sum, chunk) => sum + chunk.pcm.length, 0);
    this.at = 0;
    this.fade = -1;
    this.playing = false;
    if (this.ended && this.ended.turn <= turn) this.ended = null;
    this.level = this.target = 1;
    this.step = 0;
  }

  process(_, outputs) {
    const out = outputs[0][0];
    if (!this.playing && this.buffered && (this.ended || this.buffered >= START_S * sampleRate)) this.playing = true;
    if (!this.playing) return true;
    for (let i = 0; i < out.length; i++) {
      const chunk = this.queue[0];
      if (!chunk) {
        this.dry(currentFrame + i);
        break;
      }
      if (this.at === 0 && (chunk.turn !== this.turn || chunk.index !== this.next)) this.begin(chunk, currentFrame + i);
      out[i] = (chunk.pcm[this.at++] / 32768) * this.gain();
      this.next++;
      this.buffered--;
      if (this.at === chunk.pcm.length) {
        this.queue.shift();
        this.at = 0;
      }
      if (this.fade === 0) {
        this.drop(this.flushed, currentFrame + i);
        break;
      }
    }
    return true;
  }

  begin(chunk, frame) {
    this.turn = chunk.turn;
    this.next = chunk.index;
    this.port.postMessage({ k: "at", turn: chunk.turn, index: chunk.index, frame });
  }

  /** Nothing left: the end, or the sender is late. */
  dry(frame) {
    const done = this.ended !== null && this.next >= this.ended.index;
    this.port.postMessage({ k: done ? "done" : "dry", turn: this.turn, index: this.next, frame });
    if (done) this.ended = null;
    this.playing = false;
    this.next = -1;
  }

  gain() {
    if (this.step) {
      this.level += this.step;
      if ((this.step > 0) === (this.level >= this.target)) {
        this.level = this.target;
        this.step = 0;
      }
    }
    if (this.fade < 0) return this.level;
    this.fade--;
    return (this.level * (this.fade + 1)) / (FADE_S * sampleRate);
  }
}

registerProcessor("visavis-player", Player);

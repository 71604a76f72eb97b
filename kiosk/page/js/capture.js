/** The microphone's track, as frames with times of the capture clock → chunks of 20 ms at 16 kHz, each with what the chain held back. */

import { Resampler } from "./resample.js";

const RATE = 16000;
const CHUNK = RATE / 50;
const WINDOW = 50; // chunks: the stage dates sound by the earliest arrival of a second, so the latency is that of the earliest, too
const PLAUSIBLE_MS = 1000;

/**
 * @param {ReadableStream<AudioData>} frames ends with the track
 * @param {{originMs: number, latencyMs: number}} clock originMs: performance.timeOrigin of the page, whose clock the frames carry;
 *   latencyMs: taken where a frame's time cannot be right
 * @param {(samples: Int16Array, latencyMs: number) => void} emit
 */
export async function capture(frames, clock, emit) {
  const chunks = new Chunks(clock, emit);
  const reader = frames.getReader();
  for (;;) {
    const { value: frame, done } = await reader.read();
    if (done) return;
    chunks.take(frame);
    frame.close();
  }
}

class Chunks {
  constructor({ originMs, latencyMs }, emit) {
    this.shiftMs = performance.timeOrigin - originMs;
    this.fixedMs = latencyMs;
    this.emit = emit;
    this.resampler = null;
    this.chunk = new Int16Array(CHUNK);
    this.filled = 0;
    this.held = []; // ms, of the last WINDOW chunks
  }

  take(frame) {
    if (this.resampler?.from !== frame.sampleRate) this.resampler = new Resampler(frame.sampleRate, RATE);
    const out = this.resampler.push(mono(frame));
    const heldMs = performance.now() + this.shiftMs - frame.timestamp / 1000 - (frame.numberOfFrames * 1000) / frame.sampleRate + this.resampler.delayMs;
    for (let i = 0; i < out.length; i++) {
      this.chunk[this.filled++] = Math.max(-32768, Math.min(32767, Math.round(out[i] * 32767)));
      if (this.filled < CHUNK) continue;
      this.emit(this.chunk, this.latency(heldMs + ((out.length - 1 - i) * 1000) / RATE));
      this.chunk = new Int16Array(CHUNK);
      this.filled = 0;
    }
  }

  latency(heldMs) {
    this.held.push(heldMs >= 0 && heldMs < PLAUSIBLE_MS ? heldMs : this.fixedMs);
    if (this.held.length > WINDOW) this.held.shift();
    return Math.min(...this.held);
  }
}

/** @returns {Float32Array} the mean of the channels */
function mono(frame) {
  const sum = new Float32Array(frame.numberOfFrames);
  frame.copyTo(sum, { planeIndex: 0, format: "f32-planar" });
  if (frame.numberOfChannels === 1) return sum;
  const plane = new Float32Array(frame.numberOfFrames);
  for (let planeIndex = 1; planeIndex < frame.numberOfChannels; planeIndex++) {
    frame.copyTo(plane, { planeIndex, format: "f32-planar" });
    for (let i = 0; i < sum.length; i++) sum[i] += plane[i];
  }
  return sum.map((value) => value / frame.numberOfChannels);
}

/** The microphone's track, as frames → chunks of 20 ms at 16 kHz. Nothing is queued here: what arrives goes on at once. */

import { Resampler } from "./resample.js";

const RATE = 16000;
const CHUNK = RATE / 50;

/**
 * @param {ReadableStream<AudioData>} frames ends with the track
 * @param {(samples: Int16Array) => void} emit
 */
export async function capture(frames, emit) {
  const reader = frames.getReader();
  let resampler = null;
  let chunk = new Int16Array(CHUNK);
  let filled = 0;
  for (;;) {
    const { value: frame, done } = await reader.read();
    if (done) return;
    if (resampler?.from !== frame.sampleRate) resampler = new Resampler(frame.sampleRate, RATE);
    const samples = resampler.push(mono(frame));
    frame.close();
    for (const sample of samples) {
      chunk[filled++] = Math.max(-32768, Math.min(32767, Math.round(sample * 32767)));
      if (filled < CHUNK) continue;
      emit(chunk);
      chunk = new Int16Array(CHUNK);
      filled = 0;
    }
  }
}

/** @returns {Float32Array} the mean of the channels; what a broken driver gives instead of numbers is silence */
function mono(frame) {
  const sum = new Float32Array(frame.numberOfFrames);
  frame.copyTo(sum, { planeIndex: 0, format: "f32-planar" });
  const plane = new Float32Array(frame.numberOfFrames);
  for (let planeIndex = 1; planeIndex < frame.numberOfChannels; planeIndex++) {
    frame.copyTo(plane, { planeIndex, format: "f32-planar" });
    for (let i = 0; i < sum.length; i++) sum[i] += plane[i];
  }
  return sum.map((value) => (Number.isFinite(value) ? value / frame.numberOfChannels : 0));
}

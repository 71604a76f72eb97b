/**
 * Worker: owns the media sockets, so that a busy main thread delays neither sound nor pictures.
 * Voice: socket → worklet's port. Microphone: frames of the track (or a worklet's port, see mic.js) → socket. Frames: socket →
 * VideoFrame → main thread.
 */

import { capture } from "./capture.js";

const COLOR = { primaries: "bt709", transfer: "iec61966-2-1", matrix: "bt709", fullRange: true };
const NV12 = 1;

let voicePort = null;
let audio = null;
let video = null;
let header = null; // of the picture that comes next
let micSeq = 0;

function socket(address, name, onmessage) {
  const opened = new WebSocket(address);
  opened.binaryType = "arraybuffer";
  const current = () => opened === (name === "audio" ? audio : video);
  opened.onopen = () => self.postMessage({ k: name, open: true });
  opened.onclose = () => current() && self.postMessage({ k: name, open: false });
  opened.onmessage = ({ data }) => onmessage(data, opened);
  return opened;
}

function onVoice(data) {
  const view = new DataView(data);
  const message = { kind: view.getUint8(0), value: view.getUint16(2, true), turn: view.getUint32(4, true), index: view.getFloat64(8, true) };
  if (data.byteLength > 16) message.pcm = new Int16Array(data, 16);
  voicePort?.postMessage(message, message.pcm ? [data] : []);
}

function onPicture(data, from) {
  if (header === null) {
    header = new DataView(data);
    return;
  }
  const [head, seq] = [header, header.getUint32(4, true)];
  header = null;
  // Taken: the stage may send the next one while this one waits for its sound.
  from.send(Uint32Array.of(seq));
  if (head.getUint8(1) !== NV12) return;
  const [turn, width, height] = [head.getUint32(8, true), head.getUint16(12, true), head.getUint16(14, true)];
  const [pts, captured] = [head.getFloat64(16, true), head.getFloat64(24, true)];
  const frame = new VideoFrame(data, {
    format: "NV12", codedWidth: width, codedHeight: height, timestamp: captured * 1000, colorSpace: COLOR, transfer: [data],
  });
  self.postMessage({ k: "frame", seq, turn, pts, captured, frame }, [frame]);
}

function sendMicrophone(samples, latencyMs) {
  if (audio?.readyState !== WebSocket.OPEN || audio.bufferedAmount > 64000) return;
  const message = new ArrayBuffer(8 + samples.byteLength);
  const view = new DataView(message);
  view.setUint8(0, 1);
  view.setUint16(2, Math.round(latencyMs * 10), true);
  view.setUint32(4, micSeq++ >>> 0, true);
  new Int16Array(message, 8).set(samples);
  audio.send(message);
}

self.onmessage = ({ data }) => {
  if (data.k === "voice") voicePort = data.port;
  if (data.k === "mic") {
    const send = (samples) => sendMicrophone(samples, data.latencyMs);
    if (data.frames) capture(data.frames, send);
    else data.port.onmessage = ({ data: samples }) => send(samples);
  }
  if (data.k === "open") {
    const before = [audio, video];
    header = null;
    audio = socket(data.audio, "audio", onVoice);
    video = socket(data.video, "video", onPicture);
    for (const old of before) old?.close();
  }
};

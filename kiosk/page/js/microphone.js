/** AudioWorklet for browsers without MediaStreamTrackProcessor: chunks of 20 ms of the microphone as 16-bit samples, straight to the worker's port. */

class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.out = null;
    this.size = Math.round(sampleRate / 50);
    this.chunk = new Int16Array(this.size);
    this.filled = 0;
    this.port.onmessage = ({ data }) => {
      this.out = data.port;
    };
  }

  process(inputs) {
    const input = inputs[0][0];
    if (!input || !this.out) return true;
    for (const sample of input) {
      this.chunk[this.filled++] = Math.max(-32768, Math.min(32767, Math.round(sample * 32767)));
      if (this.filled === this.size) {
        this.out.postMessage(this.chunk, [this.chunk.buffer]);
        this.chunk = new Int16Array(this.size);
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("visavis-microphone", Microphone);

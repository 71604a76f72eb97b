/** Sample-rate conversion of a stream by a polyphase windowed-sinc low-pass: what lies above the new Nyquist does not fold back. */

const PASS = 0.9; // of the lower Nyquist: the half-amplitude point
const REACH = 24; // samples of the lower rate that the filter sees to each side

const divisor = (a, b) => (b ? divisor(b, a % b) : a);
const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
const blackman = (x) => (Math.abs(x) >= 1 ? 0 : 0.42 + 0.5 * Math.cos(Math.PI * x) + 0.08 * Math.cos(2 * Math.PI * x));

/** One row of taps for each place that an output sample can have between two input samples; each row sums to 1. */
function bank(phases, half, cutoff) {
  return Array.from({ length: phases }, (_, phase) => {
    const taps = Float32Array.from({ length: 2 * half }, (__, k) => {
      const at = k - (half - 1) - phase / phases;
      return sinc(cutoff * at) * blackman(at / half);
    });
    const sum = taps.reduce((total, tap) => total + tap, 0);
    return taps.map((tap) => tap / sum);
  });
}

export class Resampler {
  /** @param {number} from Hz @param {number} to Hz, both whole */
  constructor(from, to) {
    const common = divisor(from, to);
    this.from = from;
    this.phases = to / common;
    this.step = from / common; // an output sample lies step / phases input samples behind the one before
    this.half = Math.ceil((REACH * from) / Math.min(from, to));
    this.bank = bank(this.phases, this.half, (PASS * Math.min(from, to)) / from);
    this.kept = new Float32Array(this.half - 1); // the filter starts in silence
    this.at = 0; // place of the next output sample in `kept`, in 1/phases
  }

  /** What the filter holds back: a sample comes out once all that it is made of is in. */
  get delayMs() {
    return (this.half * 1000) / this.from;
  }

  /** @param {Float32Array} input @returns {Float32Array} all samples that are complete now */
  push(input) {
    const { half, phases, step } = this;
    const all = new Float32Array(this.kept.length + input.length);
    all.set(this.kept);
    all.set(input, this.kept.length);
    const end = (all.length - 2 * half + 1) * phases; // the last place whose taps all lie in `all`, and one
    const out = new Float32Array(Math.max(0, Math.ceil((end - this.at) / step)));
    for (let i = 0; i < out.length; i++, this.at += step) {
      const first = Math.floor(this.at / phases);
      const taps = this.bank[this.at % phases];
      let sum = 0;
      for (let k = 0; k < taps.length; k++) sum += taps[k] * all[first + k];
      out[i] = sum;
    }
    const used = Math.min(Math.floor(this.at / phases), all.length);
    this.kept = all.slice(used);
    this.at -= used * phases;
    return out;
  }
}

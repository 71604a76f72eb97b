/**
 * The resting face: while no pictures come, the newest few seconds of a face that did not speak move on, there and back, over the last
 * picture. It is faded in and out, and slows down where it turns, so that nothing jumps.
 */

const LENGTH_MS = 2500; // of what is kept
const LEAST_MS = 600; // less is no movement
const BREAK_MS = 400; // pictures further apart are not of one movement
const BYTES = 24e6; // kept at most; of large pictures not every one is, those between are blended
const SLOWER = 1.5; // one way takes so much longer than it took
const FADE_MS = 240;
const DRAW_MS = 30;

const lengthOf = (stretch) => (stretch.length ? stretch.at(-1).at - stretch[0].at : 0);
const close = (stretch) => stretch.forEach(({ frame }) => frame.close());

export class Rest {
  /** @param {HTMLCanvasElement} canvas lies over the face */
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.taking = []; // {frame, at}: the stretch that goes on
    this.kept = []; // the one before it
    this.since = 0; // of this rest, 0: pictures come
    this.drawnAt = 0;
    this.fadedAt = 0;
    this.opacity = 0;
    this.count = 0;
  }

  /** One more picture of a face that does not speak, drawn at `at` (ms, any clock). */
  keep(frame, at) {
    const last = this.taking.at(-1);
    const other = last && (frame.displayWidth !== last.frame.displayWidth || frame.displayHeight !== last.frame.displayHeight);
    if (last && (other || at <= last.at || at - last.at > BREAK_MS)) this.cut();
    else if (last && at - last.at < (LENGTH_MS * 1.5 * frame.displayWidth * frame.displayHeight) / BYTES) return;
    this.taking.push({ frame: frame.clone(), at });
    while (lengthOf(this.taking) > LENGTH_MS) this.taking.shift().frame.close();
  }

  /** The face speaks, or is another one: the stretch is over. */
  cut() {
    const long = lengthOf(this.taking) >= LEAST_MS;
    close(long ? this.kept : this.taking);
    if (long) this.kept = this.taking;
    this.taking = [];
  }

  /** No picture came in time: begin to rest, or go on. True if a picture was drawn, false if not yet, null if there is nothing to show. */
  play(now) {
    const clip = lengthOf(this.taking) >= LEAST_MS ? this.taking : this.kept;
    if (!clip.length) return null;
    if (!this.since) {
      [this.since, this.drawnAt] = [now, 0];
      this.count++;
    }
    this.fade(now, 1);
    if (now - this.drawnAt < DRAW_MS) return false;
    this.drawnAt = now;
    this.draw(clip, now - this.since);
    return true;
  }

  draw(clip, elapsed) {
    const length = lengthOf(clip);
    const at = clip[0].at + (length * (1 + Math.cos((Math.PI * elapsed) / (length * SLOWER)))) / 2;
    const i = Math.max(0, clip.findLastIndex((one) => one.at <= at));
    const [before, after] = [clip[i], clip[Math.min(i + 1, clip.length - 1)]];
    const { displayWidth: width, displayHeight: height } = before.frame;
    if (this.canvas.width !== width || this.canvas.height !== height) [this.canvas.width, this.canvas.height] = [width, height];
    this.context.drawImage(before.frame, 0, 0);
    if (after === before) return;
    this.context.globalAlpha = (at - before.at) / (after.at - before.at);
    this.context.drawImage(after.frame, 0, 0);
    this.context.globalAlpha = 1;
  }

  /** Pictures come: what is shown of the rest fades away. */
  end(now) {
    this.since = 0;
    if (this.opacity) this.fade(now, -1);
  }

  fade(now, direction) {
    const passed = this.opacity || direction < 0 ? now - this.fadedAt : 0;
    this.fadedAt = now;
    this.opacity = Math.min(1, Math.max(0, this.opacity + (direction * Math.max(passed, 1)) / FADE_MS));
    this.canvas.style.opacity = String(this.opacity);
    this.canvas.hidden = this.opacity === 0;
  }

  get resting() {
    return this.since > 0;
  }
}

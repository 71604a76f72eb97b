/**
 * The face: takes VideoFrames, shows each when the sound it was drawn for is heard. Two presenters behind one interface:
 * a 2D canvas, or a MediaStreamTrackGenerator from 720 lines on (half the CPU there, shown one vsync later).
 * While none come (the stage or the renderer is being started again) the resting face goes on: rest.js.
 */

import { Rest } from "./rest.js";

const LONGEST_WAIT_MS = 400; // a frame whose sound does not come is shown all the same: the face never freezes
const QUEUE = 12;
const REST_AFTER_MS = 120;
const VISIBLE = 0.1; // from this opacity on a picture of the resting face counts as shown
const STALE_MS = 2000;
const PROBE_ROWS = 4096;
const GENERATOR_FROM = 720;
const PROBE_MS = 500;

class CanvasPresenter {
  extraVsyncs = 0;
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false, desynchronized: false });
  }
  show(frame) {
    const { displayWidth: width, displayHeight: height } = frame;
    if (this.canvas.width !== width || this.canvas.height !== height) [this.canvas.width, this.canvas.height] = [width, height];
    this.context.drawImage(frame, 0, 0);
    frame.close();
  }
}

class GeneratorPresenter {
  extraVsyncs = 1;
  constructor(video) {
    const track = new MediaStreamTrackGenerator({ kind: "video" });
    this.writer = track.writable.getWriter();
    video.srcObject = new MediaStream([track]);
    video.play().catch(() => {});
  }
  show(frame) {
    this.writer.write(frame).catch(() => frame.close());
  }
}

export class Face {
  /**
   * @param {(ms: number) => ({turn: number, index: number, playing: boolean} | null)} heard
   * @param {(kind: string, what: object) => void} tell to the stage
   */
  constructor(elements, heard, tell, probe) {
    Object.assign(this, elements); // canvas, video, still
    this.rest = new Rest(elements.rest);
    this.heard = heard;
    this.tell = tell;
    this.probe = probe ? [] : null;
    this.queue = [];
    this.presenter = null;
    this.flushed = 0;
    this.firstOf = 0; // newest turn whose first frame was shown
    this.vsync = 1000 / 60;
    this.lastTick = 0;
    this.drawnAt = 0; // the newest frame
    this.shownAt = 0; // the newest picture, of whichever kind
    this.stillAt = 0;
    this.frozen = false; // the visitor wants a still picture
    this.offsetMs = 0; // CLOCK_MONOTONIC minus performance.now()
    this.onstate = () => {};
    this.state = "none";
    this.drawn = this.dropped = this.gap = this.age = 0;
    requestAnimationFrame((now) => this.tick(now));
    if (probe) setInterval(() => this.sendProbe(), PROBE_MS);
  }

  take({ seq, turn, pts, captured, frame }) {
    if (pts >= 0 && turn <= this.flushed) {
      frame.close();
      return;
    }
    this.queue.push({ seq, turn, pts, captured, frame, came: performance.now() });
    if (this.queue.length > QUEUE) this.drop(this.queue.shift());
  }

  /** Frames for the sound of this turn and older ones are not wanted any more. */
  flush(turn) {
    this.flushed = Math.max(this.flushed, turn);
    this.queue = this.queue.filter((one) => !(one.pts >= 0 && one.turn <= turn) || this.drop(one));
  }

  drop(one) {
    one.frame.close();
    this.dropped++;
    return false;
  }

  tick(now) {
    requestAnimationFrame((next) => this.tick(next));
    if (this.lastTick && now > this.lastTick) this.vsync += 0.05 * (Math.min(now - this.lastTick, 50) - this.vsync);
    this.lastTick = now;
    const time = performance.now();
    const heard = this.heard(time + this.vsync * (1 + (this.presenter?.extraVsyncs ?? 0)));
    let due = -1;
    this.queue.forEach((one, i) => {
      if (this.isDue(one, heard, time)) due = i;
    });
    if (due >= 0) {
      for (const old of this.queue.splice(0, due)) this.drop(old);
      this.show(this.queue.shift(), heard, time);
    }
    if (this.drawnAt) this.bridge(time);
    const late = this.rest.resting ? "resting" : "stale";
    this.setState(this.drawnAt && time - this.drawnAt < STALE_MS ? "live" : this.drawnAt ? late : "none");
  }

  /** Nothing new in time: the resting face moves; a still picture that the visitor wants stays one. */
  bridge(time) {
    if (time - this.drawnAt < REST_AFTER_MS || this.frozen) this.rest.end(time);
    else if (this.rest.play(time) && this.rest.opacity >= VISIBLE) this.seen(time, [-1, -1, 0, time, -1]);
  }

  /** A picture was shown. */
  seen(time, row) {
    if (this.shownAt) this.gap = Math.max(this.gap, time - this.shownAt);
    this.shownAt = time;
    if (this.probe && this.probe.push(row) > PROBE_ROWS) this.probe.shift();
  }

  isDue({ turn, pts, came }, heard, time) {
    if (pts < 0 || time - came > LONGEST_WAIT_MS) return true;
    return heard !== null && (heard.turn > turn || (heard.turn === turn && heard.index >= pts));
  }

  show(one, heard, time) {
    const { frame, pts, seq, turn, captured } = one;
    if (pts < 0) this.keepStill(frame, time);
    if (pts < 0) this.rest.keep(frame, captured);
    else this.rest.cut();
    this.choose(frame.displayHeight);
    this.presenter.show(frame);
    if (pts < 0) this.age = Math.max(this.age, time + this.offsetMs - captured);
    this.drawnAt = time;
    this.drawn++;
    if (pts >= 0 && turn > this.firstOf) {
      this.firstOf = turn;
      this.tell("frame", { turn, pts, ms: time });
    }
    this.seen(time, [seq, pts, turn, time, heard && heard.turn === turn ? heard.index : -1]);
  }

  choose(height) {
    const generator = height >= GENERATOR_FROM && "MediaStreamTrackGenerator" in window;
    if (this.presenter && generator === this.presenter instanceof GeneratorPresenter) return;
    this.presenter = generator ? new GeneratorPresenter(this.video) : new CanvasPresenter(this.canvas);
    this.video.hidden = !generator;
    this.canvas.hidden = generator;
  }

  /** The picture for reduced motion and for when the frames stop: a resting face, kept once and refreshed only when it is old. */
  keepStill(frame, time) {
    if (this.stillAt && (this.frozen || time - this.stillAt < 60000)) return;
    this.stillAt = time;
    [this.still.width, this.still.height] = [frame.displayWidth, frame.displayHeight];
    this.still.getContext("2d").drawImage(frame, 0, 0);
  }

  freeze(frozen) {
    this.frozen = frozen;
    this.showStill();
  }

  setState(state) {
    if (state === this.state) return;
    this.state = state;
    this.showStill();
    this.onstate(state);
  }

  showStill() {
    this.still.hidden = !(this.stillAt && (this.frozen || this.state === "stale"));
  }

  sendProbe() {
    // Kept while the stage is away, and until it knows our clock again.
    if (this.probe.length && this.offsetMs) this.tell("probe", { frames: this.probe.splice(0) });
  }

  /** How long no frame came, ms. */
  get waitedMs() {
    return this.drawnAt ? performance.now() - this.drawnAt : 0;
  }

  /** The figures of the last second, and start anew. */
  stats() {
    const age = this.shownAt ? performance.now() - this.shownAt : 0;
    const figures = { fps: this.drawn, gap_ms: Math.max(this.gap, age), age_ms: this.age, dropped: this.dropped, rests: this.rest.count };
    this.drawn = this.gap = this.age = 0;
    return figures;
  }
}

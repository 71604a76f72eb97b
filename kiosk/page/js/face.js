/**
 * The face: takes VideoFrames, shows each when the sound it was drawn for is heard. Two presenters behind one interface:
 * a 2D canvas, or a MediaStreamTrackGenerator from 720 lines on (half the CPU there, shown one vsync later).
 */

const LONGEST_WAIT_MS = 400; // a frame whose sound does not come is shown all the same: the face never freezes
const QUEUE = 12;
const STALE_MS = 2000;
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
    this.heard = heard;
    this.tell = tell;
    this.probe = probe ? [] : null;
    this.queue = [];
    this.presenter = null;
    this.flushed = 0;
    this.firstOf = 0; // newest turn whose first frame was shown
    this.vsync = 1000 / 60;
    this.lastTick = 0;
    this.drawnAt = 0;
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
    this.setState(this.drawnAt && time - this.drawnAt < STALE_MS ? "live" : this.drawnAt ? "stale" : "none");
  }

  isDue({ turn, pts, came }, heard, time) {
    if (pts < 0 || time - came > LONGEST_WAIT_MS) return true;
    return heard !== null && (heard.turn > turn || (heard.turn === turn && heard.index >= pts));
  }

  show(one, heard, time) {
    const { frame, pts, seq, turn, captured } = one;
    if (pts < 0) this.keepStill(frame, time);
    this.choose(frame.displayHeight);
    this.presenter.show(frame);
    if (this.drawnAt) this.gap = Math.max(this.gap, time - this.drawnAt);
    if (pts < 0) this.age = Math.max(this.age, time + this.offsetMs - captured);
    this.drawnAt = time;
    this.drawn++;
    if (pts >= 0 && turn > this.firstOf) {
      this.firstOf = turn;
      this.tell("frame", { turn, pts, ms: time });
    }
    this.probe?.push([seq, pts, turn, time, heard && heard.turn === turn ? heard.index : -1]);
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
    if (this.probe.length) this.tell("probe", { frames: this.probe.splice(0) });
  }

  /** The figures of the last second, and start anew. */
  stats() {
    const age = performance.now() - this.drawnAt;
    const figures = { fps: this.drawn, gap_ms: Math.max(this.gap, this.drawnAt ? age : 0), age_ms: this.age, dropped: this.dropped };
    this.drawn = this.gap = this.age = 0;
    return figures;
  }
}

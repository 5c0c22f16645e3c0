// Pointers, wheels and keys on the picture: strokes, zoom and pan.

import { $, say } from "./dom.js";

const STEP = 8; // CSS pixels that an arrow key moves the brush by

export class Painting {
  tool = "brush";
  size = 40; // of the brush, in the picture's pixels
  ontool = () => {};
  onsize = () => {};
  onpaint = () => {}; // before a stroke begins
  allowed = () => true; // whether one may begin
  #stage;
  #strokes;
  #pointers = new Map(); // where each finger is
  #panning = false;
  #space = false;
  #at = null; // the brush, on the screen
  #byKeys = false; // whether keys have put the brush down

  constructor(stage, strokes) {
    this.#stage = stage;
    this.#strokes = strokes;
    const area = $("viewport");
    area.addEventListener("pointerdown", (event) => this.#down(event));
    area.addEventListener("pointermove", (event) => this.#move(event));
    area.addEventListener("pointerup", (event) => this.#up(event));
    area.addEventListener("pointercancel", (event) => this.#up(event, true));
    area.addEventListener("pointerleave", () => this.#place(null));
    area.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    area.addEventListener("keydown", (event) => this.#key(event));
    area.addEventListener("blur", () => this.#lift());
    window.addEventListener("keydown", (event) => this.#holdSpace(event, true));
    window.addEventListener("keyup", (event) => this.#holdSpace(event, false));
  }

  choose(tool) {
    this.#lift();
    this.tool = tool;
    this.ontool();
    this.drawCursor();
  }

  /** The largest brush: half of the picture. */
  get largest() {
    const { photo } = this.#stage;
    return photo ? Math.max(photo.width, photo.height) / 2 : 400;
  }

  resize(size) {
    this.size = Math.min(Math.max(size, 1), this.largest);
    this.onsize();
    this.drawCursor();
  }

  /** The brush at its true size, where the pointer is. */
  drawCursor() {
    const cursor = $("cursor");
    const drawn = this.#at && this.#stage.photo && (this.tool === "brush" || this.tool === "eraser");
    cursor.hidden = !drawn || this.#space;
    $("viewport").dataset.tool = this.#space ? "hand" : this.tool;
    if (cursor.hidden) return;
    const side = Math.max(this.size * this.#stage.view.scale, 3);
    cursor.style.width = cursor.style.height = `${side}px`;
    cursor.style.transform = `translate(${this.#at[0] - side / 2}px, ${this.#at[1] - side / 2}px)`;
  }

  #place(at) {
    this.#at = at;
    this.drawCursor();
  }

  #where(event) {
    const box = $("viewport").getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  #onPicture([x, y]) {
    return this.#stage.view.toPicture(x, y).map((number) => Math.round(number * 100) / 100);
  }

  #down(event) {
    const { photo } = this.#stage;
    if (!photo || event.button > 1) return;
    event.preventDefault();
    $("viewport").focus({ preventScroll: true });
    $("viewport").setPointerCapture(event.pointerId);
    const at = this.#where(event);
    this.#pointers.set(event.pointerId, at);
    if (this.#pointers.size === 2) {
      this.#stage.live = null; // two fingers zoom: what the first began was no stroke
      this.#stage.draw();
    } else if (this.#pointers.size === 1) {
      this.#panning = this.tool === "hand" || this.#space || event.button === 1;
      if (!this.#panning) this.#begin(at);
    }
  }

  #move(event) {
    const at = this.#where(event);
    this.#place(event.pointerType === "touch" ? null : at);
    const before = this.#pointers.get(event.pointerId);
    if (!before) return;
    if (this.#pointers.size >= 2) {
      this.#pinch(event.pointerId, before, at);
    } else if (this.#panning) {
      this.#stage.pan(at[0] - before[0], at[1] - before[1]);
    } else {
      const all = event.getCoalescedEvents?.() ?? [];
      for (const each of all.length ? all : [event]) this.#lead(this.#where(each));
    }
    this.#pointers.set(event.pointerId, at);
  }

  #up(event, broken = false) {
    if (!this.#pointers.delete(event.pointerId)) return;
    if (this.#pointers.size > 0) return;
    this.#panning = false;
    if (broken) this.#stage.live = null;
    this.#end();
  }

  /** Zooms about the finger that rests, and moves along. */
  #pinch(id, before, at) {
    const [other] = [...this.#pointers].find(([key]) => key !== id).slice(1);
    const distance = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
    this.#stage.view.pan((at[0] - before[0]) / 2, (at[1] - before[1]) / 2);
    this.#stage.zoom(distance(at) / Math.max(distance(before), 1), ...other);
  }

  #begin(at) {
    if (!this.allowed()) return;
    this.onpaint();
    const point = this.#onPicture(at);
    this.#stage.live =
      this.tool === "rectangle"
        ? { kind: "rectangle", from: point, to: point }
        : { kind: this.tool, size: Math.round(this.size * 100) / 100, points: [point] };
    this.#stage.draw();
  }

  #lead(at) {
    const { live } = this.#stage;
    if (!live) return;
    const point = this.#onPicture(at);
    if (live.kind === "rectangle") live.to = point;
    else if (String(live.points.at(-1)) !== String(point)) live.points.push(point);
    this.#stage.drawMask();
  }

  #end() {
    const { live } = this.#stage;
    this.#stage.live = null;
    if (live && !(live.kind === "rectangle" && String(live.from) === String(live.to))) {
      this.#strokes.add(live);
    }
    this.#stage.draw();
  }

  #wheel(event) {
    if (!this.#stage.photo) return;
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 30 : 1;
    const speed = event.ctrlKey ? 0.01 : 0.0016; // a pinch on a trackpad comes as a wheel with Ctrl
    this.#stage.zoom(Math.exp(-event.deltaY * lines * speed), ...this.#where(event));
    this.drawCursor();
  }

  #holdSpace(event, down) {
    const typing = event.target.closest?.("input, select, textarea, button, summary, a");
    if (event.code !== "Space" || (typing && down) || !this.#stage.photo) return;
    if (down) event.preventDefault();
    this.#space = down;
    this.drawCursor();
  }

  #key(event) {
    if (!this.#stage.photo || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = event.shiftKey ? 6 * STEP : STEP;
    const moves = {
      ArrowLeft: [-step, 0],
      ArrowRight: [step, 0],
      ArrowUp: [0, -step],
      ArrowDown: [0, step],
    };
    if (event.key in moves) this.#moveByKeys(moves[event.key]);
    else if (event.key === "Enter") this.#putDownOrLift();
    else if (event.key === "Escape" && this.#byKeys) this.#lift(true);
    else return;
    event.preventDefault();
  }

  #moveByKeys([across, down]) {
    const { width, height } = this.#stage.room;
    if (this.tool === "hand") {
      this.#stage.pan(-across, -down);
      return;
    }
    const [x, y] = this.#at ?? [width / 2, height / 2];
    this.#place([
      Math.min(Math.max(x + across, 0), width),
      Math.min(Math.max(y + down, 0), height),
    ]);
    if (this.#byKeys) this.#lead(this.#at);
  }

  #putDownOrLift() {
    if (this.tool === "hand") return;
    if (this.#byKeys) {
      this.#lift();
      return;
    }
    if (!this.#at) this.#moveByKeys([0, 0]);
    this.#byKeys = true;
    this.#begin(this.#at);
    say(this.tool === "rectangle" ? "First corner" : `${this.tool} down`);
  }

  #lift(broken = false) {
    if (!this.#byKeys) return;
    this.#byKeys = false;
    if (broken) this.#stage.live = null;
    this.#end();
    say(broken ? "Left out" : "Painted");
  }
}

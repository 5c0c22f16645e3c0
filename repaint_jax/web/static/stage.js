// What is seen: the photograph or a result, previews inside the hole, and the hole's colour above.

import { $ } from "./dom.js";
import { View } from "./view.js";

export class Stage {
  view = new View();
  photo = null; // the layer that is painted on
  result = null; // a layer that is shown in its place
  comparing = false;
  previews = new Map(); // {box, bitmaps} of each window that is being filled
  previewed = 0; // which sample's
  live = null; // a stroke that is not finished
  colour = "#e4576a";
  onview = () => {};
  #strokes;
  #picture = $("picture").getContext("2d");
  #mask = $("mask").getContext("2d", { willReadFrequently: false });
  #holed = document.createElement("canvas").getContext("2d");
  #room = { width: 1, height: 1 };
  #density = 1;
  #asked = { picture: false, mask: false };
  #refining = 0;

  constructor(strokes) {
    this.#strokes = strokes;
    new ResizeObserver(() => this.#resize()).observe($("viewport"));
    this.#resize();
  }

  get room() {
    return this.#room;
  }

  get busy() {
    return this.previews.size > 0;
  }

  /** Shows another photograph, whole. */
  show(photo) {
    this.photo = photo;
    this.result = null;
    this.previews.clear();
    this.fit();
  }

  fit() {
    if (!this.photo) return;
    const small = this.#room.width < 700;
    const side = small ? 12 : 32;
    this.view.fit(this.photo, this.#room, { left: side, right: side, top: side, bottom: small ? 64 : 76 });
    this.moved();
  }

  zoom(factor, x = this.#room.width / 2, y = this.#room.height / 2) {
    if (!this.photo) return;
    this.view.zoom(factor, x, y);
    this.moved();
  }

  pan(across, down) {
    this.view.pan(across, down);
    this.moved();
  }

  /** The picture lies elsewhere. */
  moved() {
    if (this.photo) this.view.hold(this.photo, this.#room);
    this.draw();
    this.onview();
  }

  /** Draws everything with the next frame. */
  draw() {
    this.drawMask();
    if (this.#asked.picture) return;
    this.#asked.picture = true;
    requestAnimationFrame(() => {
      this.#asked.picture = false;
      this.#drawPicture();
      clearTimeout(this.#refining);
      this.#refining = setTimeout(() => this.#refine(), 120);
    });
  }

  drawMask() {
    if (this.#asked.mask) return;
    this.#asked.mask = true;
    requestAnimationFrame(() => {
      this.#asked.mask = false;
      const context = this.#cleared(this.#mask);
      const hidden = this.busy || (this.result && !this.live);
      if (!this.photo || hidden) return;
      this.view.apply(context, this.#density);
      this.#strokes.draw(context, this.photo, this.colour, this.live);
    });
  }

  #resize() {
    const { clientWidth: width, clientHeight: height } = $("viewport");
    if (!width || !height) return;
    const first = this.#room.width === 1;
    const [across, down] = [(width - this.#room.width) / 2, (height - this.#room.height) / 2];
    this.#room = { width, height };
    this.#density = window.devicePixelRatio || 1;
    for (const { canvas } of [this.#picture, this.#mask, this.#holed]) {
      canvas.width = Math.round(width * this.#density);
      canvas.height = Math.round(height * this.#density);
    }
    if (first) this.fit();
    else this.pan(across, down);
  }

  #cleared(context) {
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.globalCompositeOperation = "source-over";
    context.clearRect(0, 0, context.canvas.width, context.canvas.height);
    return context;
  }

  #drawPicture() {
    const context = this.#cleared(this.#picture);
    if (!this.photo) return;
    this.view.apply(context, this.#density);
    const shown = this.comparing ? this.photo : (this.result ?? this.photo);
    shown.draw(context, this.view.scale * this.#density);
    if (this.busy && !this.comparing) this.#drawPreviews(context);
  }

  /** Previews, where the hole is. */
  #drawPreviews(context) {
    const holed = this.#cleared(this.#holed);
    this.view.apply(holed, this.#density);
    holed.imageSmoothingQuality = "high";
    for (const { box, bitmaps } of this.previews.values()) {
      const bitmap = bitmaps[Math.min(this.previewed, bitmaps.length - 1)];
      holed.drawImage(bitmap, box.left, box.top, box.width, box.height);
    }
    this.#strokes.keepInside(holed, this.photo);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(holed.canvas, 0, 0);
  }

  /** Fetches what is in sight in more detail, and draws that. */
  async #refine() {
    const shown = this.result ?? this.photo;
    if (!shown) return;
    const box = this.view.inSight(shown, this.#room);
    if (await shown.refine(box, this.view.scale * this.#density)) this.draw();
  }
}

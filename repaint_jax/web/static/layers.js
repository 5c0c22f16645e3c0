// Photographs as they are seen: whole at the size of a screen, and what is in sight in more detail.

import { blob } from "./api.js";

const LARGEST_BASE = 2048; // pixels across

/** A photograph of the server's. */
export class Layer {
  #base = null;
  #detail = null;
  #asked = null;
  #abort = null;

  constructor(photo) {
    Object.assign(this, photo); // id, width, height
  }

  get baseScale() {
    return this.#base ? this.#base.width / this.width : 0;
  }

  /** Fetches the whole at the size of a screen. */
  async load() {
    if (!this.#base) {
      const longer = Math.max(this.width, this.height);
      const to = Math.ceil((this.width * Math.min(longer, LARGEST_BASE)) / longer);
      this.#base = await this.region({ left: 0, top: 0, width: this.width, height: this.height }, to);
    }
    return this;
  }

  /** A part of it, `to` pixels across at the most. */
  async region(box, to, signal) {
    const { left, top, width, height } = box;
    const query = new URLSearchParams({ left, top, width, height, to: Math.max(1, Math.round(to)) });
    return createImageBitmap(await blob(`/api/photos/${this.id}/view?${query}`, { signal }));
  }

  /** Fetches what is in sight if the screen has more pixels for it than `load` brought. */
  async refine(box, density) {
    if (!this.#base || !box || density <= this.baseScale * 1.1 || this.baseScale >= 1) return false;
    const key = JSON.stringify([box, Math.round(density * 20)]);
    if (this.#asked === key) return false;
    this.#abort?.abort();
    this.#abort = new AbortController();
    this.#asked = key;
    try {
      const to = box.width * Math.min(density, 1);
      this.#detail = { box, bitmap: await this.region(box, to, this.#abort.signal) };
      return true;
    } catch {
      this.#asked = null; // what is there is seen on
      return false;
    }
  }

  /** Draws it on a canvas in its pixels. */
  draw(context, density) {
    if (!this.#base) return;
    context.imageSmoothingEnabled = density < 8;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.#base, 0, 0, this.width, this.height);
    if (this.#detail) {
      const { box, bitmap } = this.#detail;
      context.drawImage(bitmap, box.left, box.top, box.width, box.height);
    }
  }
}

// What was filled: thumbnails of the last set, what can be done with them, and the session's sets.

import { blob } from "./api.js";
import { $, save, say, sentence, tell } from "./dom.js";
import { Layer } from "./layers.js";

const THUMB = 240; // pixels across, for screens of twice the density

export class Results {
  sets = []; // {photo, layers, box, strokes, words}, the last first
  onuse = () => {};
  onshow = () => true; // whether it may be shown
  onchange = () => {};
  #stage;
  #set = null; // which is shown
  #which = 0; // of its results

  constructor(stage) {
    this.#stage = stage;
    const compare = $("compare");
    compare.addEventListener("pointerdown", () => this.compare(true));
    for (const kind of ["pointerup", "pointerleave", "pointercancel", "blur"]) {
      compare.addEventListener(kind, () => this.compare(false));
    }
    compare.addEventListener("keydown", (event) => {
      if (event.key === " " || event.key === "Enter") this.compare(true);
    });
    compare.addEventListener("keyup", () => this.compare(false));
    $("use").addEventListener("click", () => this.#chosen && this.onuse(this.#chosen));
    $("download").addEventListener("click", () => this.#download());
    $("download-all").addEventListener("click", () => this.#downloadAll());
  }

  get #chosen() {
    return this.#set?.layers[this.#which] ?? null;
  }

  /** Adds a set and shows its first result. */
  async add(set) {
    this.sets.unshift(set);
    await this.show(set, 0);
    this.onchange();
  }

  /** Shows a result on the stage, and its set as thumbnails. */
  async show(set, which) {
    try {
      await Promise.all([set.photo.load(), set.layers[which].load()]);
    } catch (error) {
      tell(sentence(error.message));
      this.#forget(set);
      return;
    }
    if (!this.onshow(set)) return;
    this.#set = set;
    this.#which = which;
    this.#stage.result = set.layers[which];
    this.#stage.draw();
    await this.#draw();
    say(`Result ${which + 1} of ${set.layers.length}`);
  }

  /** Back to the photograph that is painted on. */
  hide() {
    if (!this.#stage.result) return;
    this.#stage.result = null;
    this.#stage.comparing = false;
    this.#stage.draw();
    for (const thumb of $("thumbs").children) thumb.setAttribute("aria-pressed", "false");
  }

  /** Nothing is shown; the session's sets stay. */
  close() {
    this.hide();
    this.#set = null;
    $("results").hidden = true;
  }

  /** Shows the photograph in a result's place while a button or a key is held. */
  compare(held) {
    if (!this.#stage.result || this.#stage.comparing === held) return;
    this.#stage.comparing = held;
    $("compare").setAttribute("aria-pressed", String(held));
    $("compare").textContent = held ? "The original" : "Hold to compare";
    this.#stage.draw();
  }

  async #draw() {
    const set = this.#set;
    $("results").hidden = false;
    $("result-actions").hidden = false;
    $("download-all").hidden = set.layers.length < 2;
    $("results-note").textContent = set.words;
    const thumbs = await Promise.all(set.layers.map((layer) => thumbnail(layer, set.box)));
    $("thumbs").replaceChildren(
      ...thumbs.map((image, i) => {
        const button = document.createElement("button");
        button.type = "button";
        button.setAttribute("aria-label", `Result ${i + 1}`);
        button.setAttribute("aria-pressed", String(i === this.#which));
        button.append(image);
        button.addEventListener("click", () => this.show(set, i));
        return button;
      }),
    );
    await this.#drawHistory();
  }

  async #drawHistory() {
    $("history").hidden = this.sets.length < 2;
    const firsts = await Promise.all(this.sets.map((set) => thumbnail(set.layers[0], set.box)));
    $("sets").replaceChildren(
      ...firsts.map((image, i) => {
        const item = document.createElement("li");
        const button = document.createElement("button");
        button.type = "button";
        button.append(image, this.sets[i].words);
        button.setAttribute("aria-current", String(this.sets[i] === this.#set));
        button.addEventListener("click", () => this.show(this.sets[i], 0));
        item.append(button);
        return item;
      }),
    );
  }

  /** A set whose pictures the server no longer has. */
  #forget(set) {
    this.sets = this.sets.filter((other) => other !== set);
    this.#drawHistory();
    this.onchange();
  }

  async #download() {
    try {
      save(await blob(`/api/photos/${this.#chosen.id}/file`), `filled_${this.#which + 1}.png`);
    } catch (error) {
      tell(sentence(error.message));
    }
  }

  async #downloadAll() {
    try {
      const body = { photos: this.#set.layers.map(({ id }) => id) };
      save(await blob("/api/archive", { method: "POST", body }), "filled.zip");
    } catch (error) {
      tell(sentence(error.message));
    }
  }
}

/** The surroundings of a box of a picture, small. */
async function thumbnail(layer, box) {
  const side = Math.max(box.width, box.height) * 1.6;
  const width = Math.min(layer.width, Math.ceil(side));
  const height = Math.min(layer.height, Math.ceil(side));
  const start = (middle, size, limit) =>
    Math.round(Math.min(Math.max(middle - size / 2, 0), limit - size));
  const left = start(box.left + box.width / 2, width, layer.width);
  const top = start(box.top + box.height / 2, height, layer.height);
  layer.thumb ??= layer.region({ left, top, width, height }, THUMB);
  const canvas = document.createElement("canvas");
  try {
    const bitmap = await layer.thumb;
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
  } catch {
    layer.thumb = undefined; // the server has forgotten it: told when it is chosen
  }
  return canvas;
}

/** A set of layers that survives a reload. */
export const packed = ({ photo, layers, box, strokes, words }) => ({
  photo: layerFacts(photo),
  layers: layers.map(layerFacts),
  box,
  strokes,
  words,
});

export const unpacked = (set) => ({
  ...set,
  photo: new Layer(set.photo),
  layers: set.layers.map((facts) => new Layer(facts)),
});

export const layerFacts = ({ id, width, height }) => ({ id, width, height });

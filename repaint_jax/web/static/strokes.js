// The hole, as the strokes it was painted with: undone, redone, kept, and drawn at any size.

const THINNEST = Math.SQRT2; // as on the server: a dab covers at least one pixel

export class Strokes {
  #done = [];
  #undone = [];
  #scratch = document.createElement("canvas").getContext("2d");
  masks = new Map(); // pictures of uploaded masks, by id
  onchange = () => {};

  get list() {
    return this.#done;
  }

  get empty() {
    return this.#done.length === 0 || this.#done.at(-1).kind === "clear";
  }

  get canUndo() {
    return this.#done.length > 0;
  }

  get canRedo() {
    return this.#undone.length > 0;
  }

  add(stroke) {
    this.#done.push(stroke);
    this.#undone = [];
    this.onchange();
  }

  undo() {
    if (!this.canUndo) return;
    this.#undone.push(this.#done.pop());
    this.onchange();
  }

  redo() {
    if (!this.canRedo) return;
    this.#done.push(this.#undone.pop());
    this.onchange();
  }

  /** Other strokes in place of these. */
  replace(list) {
    this.#done = [...list];
    this.#undone = [];
    this.onchange();
  }

  /** Draws all of them, and one more, on a canvas in the picture's pixels, clipped to the picture. */
  draw(context, picture, colour, live = null) {
    context.save();
    context.beginPath();
    context.rect(0, 0, picture.width, picture.height);
    context.clip();
    const list = live ? [...this.#done, live] : this.#done;
    // What comes before the last that replaces everything is not seen.
    let first = list.length - 1;
    while (first > 0 && list[first].kind !== "clear" && list[first].kind !== "mask") first--;
    for (const stroke of list.slice(Math.max(first, 0))) {
      drawStroke(context, stroke, picture, colour, this.masks);
    }
    context.restore();
  }

  /** Keeps of a canvas, which is in the picture's pixels, what is in the hole. */
  keepInside(context, picture) {
    const { canvas } = this.#scratch;
    canvas.width = context.canvas.width; // which clears it
    canvas.height = context.canvas.height;
    this.#scratch.setTransform(context.getTransform());
    this.draw(this.#scratch, picture, "#000");
    context.save();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.globalCompositeOperation = "destination-in";
    context.drawImage(canvas, 0, 0);
    context.restore();
  }
}

function drawStroke(context, stroke, picture, colour, masks) {
  const all = [0, 0, picture.width, picture.height];
  context.globalCompositeOperation = "source-over";
  context.fillStyle = context.strokeStyle = colour;
  if (stroke.kind === "brush" || stroke.kind === "eraser") {
    if (stroke.kind === "eraser") context.globalCompositeOperation = "destination-out";
    context.lineCap = context.lineJoin = "round";
    context.lineWidth = Math.max(stroke.size, THINNEST);
    const [start, ...rest] = stroke.points;
    context.beginPath();
    context.moveTo(...start);
    for (const point of rest) context.lineTo(...point);
    if (rest.length === 0) context.lineTo(start[0] + 1e-3, start[1]);
    context.stroke();
  } else if (stroke.kind === "rectangle") {
    const [left, top] = stroke.from;
    context.fillRect(left, top, stroke.to[0] - left, stroke.to[1] - top);
  } else if (stroke.kind === "invert") {
    context.globalCompositeOperation = "xor";
    context.fillRect(...all);
  } else if (stroke.kind === "clear") {
    context.clearRect(...all);
  } else if (stroke.kind === "mask" && masks.has(stroke.id)) {
    context.clearRect(...all);
    context.drawImage(masks.get(stroke.id), ...all);
    context.globalCompositeOperation = "source-in";
    context.fillRect(...all);
  }
  context.globalCompositeOperation = "source-over";
}

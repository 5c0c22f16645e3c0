// Where the picture lies on the screen. Lengths on the screen are CSS pixels.

const LARGEST = 40; // CSS pixels for one of the picture

export class View {
  scale = 1;
  x = 0;
  y = 0;
  #smallest = 0.01;

  /** From the screen to the picture. */
  toPicture(x, y) {
    return [(x - this.x) / this.scale, (y - this.y) / this.scale];
  }

  /** From the picture to the screen. */
  toScreen(x, y) {
    return [x * this.scale + this.x, y * this.scale + this.y];
  }

  /** Shows a picture whole, in the middle. */
  fit(picture, room, padding) {
    const across = (room.width - padding.left - padding.right) / picture.width;
    const down = (room.height - padding.top - padding.bottom) / picture.height;
    this.scale = Math.max(Math.min(across, down, LARGEST), 1e-3);
    this.#smallest = this.scale / 3;
    const middle = [
      padding.left + (room.width - padding.left - padding.right) / 2,
      padding.top + (room.height - padding.top - padding.bottom) / 2,
    ];
    this.x = middle[0] - (picture.width * this.scale) / 2;
    this.y = middle[1] - (picture.height * this.scale) / 2;
  }

  /** Zooms about a point of the screen. */
  zoom(factor, x, y) {
    const scale = Math.min(Math.max(this.scale * factor, this.#smallest), LARGEST);
    const [left, top] = this.toPicture(x, y);
    this.scale = scale;
    this.x = x - left * scale;
    this.y = y - top * scale;
  }

  pan(across, down) {
    this.x += across;
    this.y += down;
  }

  /** Keeps a bit of the picture in sight. */
  hold(picture, room) {
    const edge = 60;
    this.x = Math.min(Math.max(this.x, edge - picture.width * this.scale), room.width - edge);
    this.y = Math.min(Math.max(this.y, edge - picture.height * this.scale), room.height - edge);
  }

  /** Sets a canvas's context so that it is drawn in the picture's pixels. */
  apply(context, density) {
    const scale = this.scale * density;
    context.setTransform(scale, 0, 0, scale, this.x * density, this.y * density);
  }

  /** The part of a picture that is in sight, in its whole pixels. */
  inSight(picture, room) {
    const [left, top] = this.toPicture(0, 0).map(Math.floor);
    const [right, bottom] = this.toPicture(room.width, room.height).map(Math.ceil);
    const box = { left: Math.max(left, 0), top: Math.max(top, 0) };
    box.width = Math.min(right, picture.width) - box.left;
    box.height = Math.min(bottom, picture.height) - box.top;
    return box.width > 0 && box.height > 0 ? box : null;
  }
}

"""Pictures of pictures: what went in, what was missing and what came out, side by side."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_CELL = 160  # pixels to which small pictures are about enlarged
_CAPTION = 22  # pixels of a line of captions
_FONT_SIZE = 14
_INK = (64, 64, 64)
_HOLE = 214  # light grey, and its hatch a little lighter
_HATCH = 234

Row = Sequence[np.ndarray | None]


def masked_preview(picture: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The picture with its hole hatched in light grey.

    Args:
        picture: uint8[H, W, C].
        known: bool[H, W], True = known.

    Returns:
        uint8[H, W, C].
    """
    height, width = known.shape
    period = max(2, min(height, width) // 16)
    y, x = np.indices(known.shape)
    hatch = np.where((x + y) % period < period / 2, _HOLE, _HATCH).astype(np.uint8)
    return np.where(known[:, :, None], picture, hatch[:, :, None])


def overview(
    originals: Sequence[np.ndarray],
    masked: Sequence[np.ndarray],
    samples: Sequence[Sequence[np.ndarray]],
    *,
    scale: int | None = None,
) -> np.ndarray:
    """The results of a run in one picture: a row each of original, masked picture and samples.

    Above five samples the original stands on top of the masked picture, with the samples in two or
    more lines on their right.

    Args:
        originals: N pictures, uint8[H, W, C].
        masked: N pictures, as by `masked_preview`.
        samples: for each of the N the same number of pictures.
        scale: as in `grid`.

    Returns:
        uint8[height, width, 3].
    """
    rows: list[Row] = []
    labels: list[list[str]] = []
    for original, hidden, drawn in zip(originals, masked, samples, strict=True):
        names = [f"sample {index + 1}" for index in range(len(drawn))]
        if len(drawn) <= 5:
            rows.append([original, hidden, *drawn])
            labels.append([] if labels else ["original", "masked", *names])
            continue
        columns = min(6, math.ceil(len(drawn) / 2))
        firsts = [(original, "original"), (hidden, "masked")]
        for line, start in enumerate(range(0, len(drawn), columns)):
            first, name = firsts[line] if line < 2 else (None, "")
            rows.append([first, *drawn[start : start + columns]])
            labels.append([name, *names[start : start + columns]])
    return grid(rows, labels=labels, scale=scale)


def grid(
    rows: Sequence[Row],
    *,
    labels: Sequence[Sequence[str]] = (),
    scale: int | None = None,
    gap: int = 6,
) -> np.ndarray:
    """Lays pictures out in rows on white.

    Args:
        rows: pictures of one size, uint8[H, W, 3], [H, W, 1] or [H, W]; None leaves a gap.
        labels: captions above the pictures, nested as the rows: one list puts captions above the
            columns. Rows without captions take no room for them.
        scale: the whole factor by which pictures are enlarged, without blending; by default the one
            that brings them nearest to 160 pixels.
        gap: white pixels between and around the pictures.

    Returns:
        uint8[height, width, 3].

    Raises:
        ValueError: without pictures, or when they differ in size.
    """
    shapes = {picture.shape[:2] for row in rows for picture in row if picture is not None}
    if len(shapes) != 1:
        raise ValueError(f"a grid needs pictures of one size, got {sorted(shapes) or 'none'}")
    height, width = shapes.pop()
    scale = scale or max(1, round(_CELL / max(height, width)))
    height, width = height * scale, width * scale
    captions = [list(labels[i]) if i < len(labels) else [] for i in range(len(rows))]
    columns = max(len(row) for row in rows)
    lines = sum(any(names) for names in captions)
    sheet = Image.new(
        "RGB",
        (gap + columns * (width + gap), gap + len(rows) * (height + gap) + lines * _CAPTION),
        "white",
    )
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=_FONT_SIZE)
    top = gap
    for row, names in zip(rows, captions, strict=True):
        if any(names):
            for column, name in enumerate(names):
                middle = gap + column * (width + gap) + width // 2
                draw.text((middle, top + _CAPTION // 2), name, _INK, font, anchor="mm")
            top += _CAPTION
        for column, picture in enumerate(row):
            if picture is not None:
                sheet.paste(_enlarged(picture, scale), (gap + column * (width + gap), top))
        top += height + gap
    return np.array(sheet)


def _enlarged(picture: np.ndarray, scale: int) -> Image.Image:
    picture = picture[:, :, 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture
    return Image.fromarray(picture.repeat(scale, axis=0).repeat(scale, axis=1)).convert("RGB")

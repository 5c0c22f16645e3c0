"""Means of the scores, with confidence intervals, as Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from repaint_jax.evaluation.scores import Row
from repaint_jax.files import in_text


@dataclass(frozen=True)
class Figure:
    """A column of the table: a score, how it is called and printed, and what is better."""

    name: str
    title: str
    digits: int


FIGURES = (
    Figure("lpips", "LPIPS ↓", 3),
    Figure("lpips_2x", "LPIPS at 2x ↓", 3),
    Figure("kid", "KID, thousandths ↓", 2),
    Figure("psnr_hole", "PSNR hole, dB ↑", 2),
    Figure("psnr", "PSNR, dB ↑", 2),
    Figure("ssim_hole", "SSIM hole ↑", 3),
    Figure("ssim", "SSIM ↑", 3),
    Figure("sharpness", "sharpness in the hole", 2),
    Figure("diversity", "diversity (LPIPS)", 3),
    Figure("spread_hole", "spread in the hole, levels", 1),
    Figure("known_error", "largest error of the known part", 0),
    Figure("seconds", "seconds a picture", 2),
)
COMPARED = (
    "lpips",
    "lpips_2x",
    "kid",
    "psnr_hole",
    "ssim_hole",
    "sharpness",
    "diversity",
)


@dataclass(frozen=True)
class Mean:
    """A mean over pictures and the half width of its 95 % confidence interval."""

    value: float
    half_width: float | None  # None for a single picture

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean | None:
        """Student's interval; None without values."""
        if not len(values):
            return None
        n = len(values)
        if n == 1:
            return cls(float(values[0]), None)
        from scipy.special import stdtrit  # Student's quantiles

        error = float(np.std(values, ddof=1)) / np.sqrt(n)
        return cls(float(np.mean(values)), float(stdtrit(n - 1, 0.975) * error))

    def text(self, digits: int, *, sign: bool = False) -> str:
        """As in "12.3 ± 0.4"."""
        value = f"{self.value:{'+' if sign else ''}.{digits}f}"
        return value if self.half_width is None else f"{value} ± {self.half_width:.{digits}f}"


@dataclass(frozen=True)
class Line:
    """A method on a mask."""

    mask: str
    method: str
    calls: float | None  # call equivalents a picture, if this program made it
    pictures: int
    samples: int
    means: dict[str, Mean | None]


def summarise(rows: Sequence[Row]) -> list[Line]:
    """A line for each mask and method, in the order in which they come."""
    cells: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        cells.setdefault((row["mask"], row["method"]), []).append(row)
    masks = list(dict.fromkeys(mask for mask, _ in cells))
    return [
        Line(
            mask,
            method,
            cell[0].get("calls"),
            len({row["picture"] for row in cell}),
            len(cell),
            {figure.name: _mean(cell, figure.name) for figure in FIGURES},
        )
        for mask in masks
        for (of, method), cell in cells.items()
        if of == mask
    ]


def _mean(cell: Sequence[Row], name: str) -> Mean | None:
    if name == "known_error":  # one bad pixel in a thousand pictures must show
        errors = [row[name] for row in cell if row[name] is not None]
        return Mean(max(errors), None) if errors else None
    return Mean.of(list(_by_picture(cell, name).values()))


def _by_picture(cell: Sequence[Row], name: str) -> dict[str, float]:
    """The mean over a picture's samples: they share its difficulty and are not independent."""
    values: dict[str, list[float]] = {}
    for row in cell:
        if row.get(name) is not None:
            values.setdefault(row["picture"], []).append(row[name])
    return {picture: float(np.mean(several)) for picture, several in values.items()}


@dataclass(frozen=True)
class Difference:
    """How much a method differs from another one on the same pictures."""

    mask: str
    method: str
    other: str
    means: dict[str, Mean | None]


def differences(rows: Sequence[Row]) -> list[Difference]:
    """Each method less the first one, and less those of as many call equivalents before it.

    Paired by picture, so that the pictures' difficulty cancels.
    """
    found = []
    for mask in dict.fromkeys(row["mask"] for row in rows):
        cells: dict[str, list[Row]] = {}
        for row in rows:
            if row["mask"] == mask:
                cells.setdefault(row["method"], []).append(row)
        calls = {method: cell[0].get("calls") for method, cell in cells.items()}
        methods = list(cells)
        for i, method in enumerate(methods):
            for k, other in enumerate(methods[:i]):
                if k == 0 or calls[method] == calls[other] is not None:
                    means = {name: _paired(cells[method], cells[other], name) for name in COMPARED}
                    found.append(Difference(mask, method, other, means))
    return found


def _paired(cell: Sequence[Row], other: Sequence[Row], name: str) -> Mean | None:
    ours, theirs = _by_picture(cell, name), _by_picture(other, name)
    return Mean.of([ours[picture] - theirs[picture] for picture in ours if picture in theirs])


Table = tuple[list[str], list[list[str]]]  # head and body


def summary_table(lines: Sequence[Line]) -> Table:
    """The scores; a column that nobody has is left out."""
    shown = [f for f in FIGURES if any(line.means[f.name] for line in lines)]
    head = ["mask", "method", "call equivalents", "pictures", *(figure.title for figure in shown)]
    return head, [
        [
            line.mask,
            line.method,
            "" if line.calls is None else str(line.calls),
            _count(line),
            *(_text(line.means[figure.name], figure.digits) for figure in shown),
        ]
        for line in lines
    ]


def difference_table(found: Sequence[Difference]) -> Table:
    """The differences, with their signs."""
    figures = [f for f in FIGURES if f.name in COMPARED and any(d.means[f.name] for d in found)]
    head = ["mask", "method", "less", *(figure.title for figure in figures)]
    return head, [
        [d.mask, d.method, d.other, *(_text(d.means[f.name], f.digits, sign=True) for f in figures)]
        for d in found
    ]


def _count(line: Line) -> str:
    each = line.samples / line.pictures
    return str(line.pictures) if each == 1 else f"{line.pictures} x {each:g}"


def _text(mean: Mean | None, digits: int, *, sign: bool = False) -> str:
    return "" if mean is None else mean.text(digits, sign=sign)


def markdown(table: Table) -> str:
    """A table of GitHub's Markdown."""
    head, body = table
    lines = [head, ["---"] * len(head), *body]
    cells = [[escaped(cell).replace("|", r"\|") for cell in line] for line in lines]
    return "".join("| " + " | ".join(line) + " |\n" for line in cells)


def escaped(text: str) -> str:
    """Text that holds no HTML and no line break, for Markdown."""
    return in_text(text).replace("&", "&amp;").replace("<", "&lt;")


def as_csv(lines: Sequence[Line]) -> str:
    """A row a line; mean and half width of the 95 % interval in columns of their own."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [column for f in FIGURES for column in (f.name, f"{f.name}_ci95")]
    writer.writerow(["mask", "method", "calls", "pictures", "samples", *columns])
    parts: tuple[Callable[[Mean], float | None], ...] = (
        lambda mean: mean.value,
        lambda mean: mean.half_width,
    )
    for line in lines:
        means = [line.means[figure.name] for figure in FIGURES]
        numbers = [None if mean is None else part(mean) for mean in means for part in parts]
        writer.writerow([line.mask, line.method, line.calls, line.pictures, line.samples, *numbers])
    return text.getvalue()

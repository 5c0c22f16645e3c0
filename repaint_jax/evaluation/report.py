"""An evaluation as a page: the tables, and the pictures side by side.

The template is `report.html`; whatever it shows is escaped, for names of files may be anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined

from repaint_jax.evaluation.folder import Folder
from repaint_jax.evaluation.scores import Row
from repaint_jax.evaluation.tables import Table
from repaint_jax.pictures.images import image_shape
from repaint_jax.runtime.files import in_text

_MOST_SAMPLES = 4  # of a method, side by side


class Figure(NamedTuple):
    """Pictures with a line below."""

    urls: list[str]
    caption: str
    scores: str = ""


class Strip(NamedTuple):
    """What belongs to one picture, and the score of each method's first sample by its number."""

    figures: list[Figure]
    firsts: dict[int, str]


def write_page(
    folder: Folder,
    rows: Sequence[Row],
    *,
    title: str,
    notes: Sequence[str],
    summary: Table,
    differences: Table,
) -> str:
    """The page, which refers to the folder's pictures."""
    masks = list(dict.fromkeys(row["mask"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    key, score, worst = ("lpips", "LPIPS", "high")
    if all(row["lpips"] is None for row in rows):
        key, score, worst = ("psnr_hole", "PSNR in the hole, in dB", "low")
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    template = (files(__package__) / "report.html").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        title=title,
        notes=notes,
        small=_is_small(folder),
        summary=_shown(summary),
        differences=_shown(differences),
        masks=list(map(in_text, masks)),
        methods=list(map(in_text, methods)),
        score=score,
        worst=worst,
        sections=[list(_strips(folder, rows, mask, methods, key)) for mask in masks],
    )


def _strips(
    folder: Folder, rows: Sequence[Row], mask: str, methods: Sequence[str], key: str
) -> Iterator[Strip]:
    """A strip for each picture: original, masked, and each method's samples."""
    found: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        if row["mask"] == mask:
            found.setdefault(row["picture"], {}).setdefault(row["method"], []).append(row)
    for picture, by_method in found.items():
        masked = folder.masked(mask, picture)
        if not masked.is_file():
            masked = folder.known_mask(mask, picture)
        figures = [
            Figure([_url(folder.original(picture), folder)], in_text(picture)),
            Figure([_url(masked, folder)], "masked"),
        ]
        firsts = {}
        for i, method in enumerate(methods):
            if method in by_method:
                shown = by_method[method][:_MOST_SAMPLES]
                urls = [_url(folder.root / row["file"], folder) for row in shown]
                scores = ", ".join(_score(row[key]) for row in shown)
                figures.append(Figure(urls, in_text(method), scores))
                if shown[0][key] is not None:
                    firsts[i] = f"{shown[0][key]:.6g}"
        yield Strip(figures, firsts)


def _url(file: Path, folder: Folder) -> str:
    """Where the page finds a file; its name's bytes, whether they are text or not."""
    return quote(str(file.relative_to(folder.root)).encode("utf-8", "surrogateescape"))


def _shown(table: Table) -> Table:
    head, body = table
    return head, [list(map(in_text, line)) for line in body]


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _is_small(folder: Folder) -> bool:
    """Whether enlarged pictures should show their pixels."""
    return max(image_shape(folder.original(folder.pictures()[0]))) <= 64

"""The folder of an evaluation: where its pictures lie, whoever made them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repaint_jax.pictures.finding import natural_order
from repaint_jax.pictures.naming import normal_form
from repaint_jax.runtime.files import read_lines


@dataclass(frozen=True)
class Folder:
    """The files of an evaluation.

    original/PICTURE.png
    masked/MASK/PICTURE.png, known_mask/MASK/PICTURE.png
    inpainted/METHOD/MASK/PICTURE_SAMPLE.png, by any program; PICTURE.png counts as sample 0
    sampled/PROCESS.jsonl: how long this program's pictures took
    sampled/unfinished/: batches in mid-trajectory
    """

    root: Path

    def original(self, picture: str) -> Path:
        """A picture as it was."""
        return self.root / "original" / f"{picture}.png"

    def masked(self, mask: str, picture: str) -> Path:
        """A picture with its hole hatched, to look at."""
        return self.root / "masked" / mask / f"{picture}.png"

    def known_mask(self, mask: str, picture: str) -> Path:
        """White where the picture is known."""
        return self.root / "known_mask" / mask / f"{picture}.png"

    def inpainted(self, method: str, mask: str, picture: str, sample: int) -> Path:
        """A result."""
        return self.root / "inpainted" / method / mask / f"{picture}_{sample}.png"

    @property
    def settings(self) -> Path:
        """What this program was asked for."""
        return self.root / "evaluation.json"

    def log(self, process: int) -> Path:
        """A line for each result of a process."""
        return self.root / "sampled" / f"{process}.jsonl"

    def pictures(self) -> list[str]:
        """Names of the originals."""
        files = sorted((self.root / "original").glob("*.png"), key=natural_order)
        return [file.stem for file in files]

    def masks(self) -> list[str]:
        """Names of the masks."""
        return sorted(file.name for file in (self.root / "known_mask").glob("*") if file.is_dir())

    def methods(self) -> list[str]:
        """Names of the methods, those asked for first and in their order."""
        asked = self.asked().get("methods", [])
        found = {file.name for file in (self.root / "inpainted").glob("*") if file.is_dir()}
        return [*(name for name in asked if name in found), *sorted(found - {*asked})]

    def asked(self) -> dict[str, Any]:
        """The settings; nothing if another program made everything."""
        return (
            json.loads(self.settings.read_text(encoding="utf-8")) if self.settings.is_file() else {}
        )

    def samples(self, method: str, mask: str) -> tuple[dict[str, dict[int, Path]], list[str]]:
        """A method's results for one mask, by picture and sample.

        PICTURE.png is sample 0 where no file there has a number; else a_1.png is a sample of `a`,
        even if there is a picture `a_1`.

        Returns:
            The results, and a line for each file that is none.
        """
        pictures = {normal_form(name): name for name in self.pictures()}
        place = self.root / "inpainted" / method / mask
        files = sorted(file for file in place.glob("*") if not file.name.startswith("."))
        readings = {file: _readings(file, pictures) for file in files}
        numbered = any(number and not whole for whole, number in readings.values())
        found: dict[str, dict[int, Path]] = {name: {} for name in pictures.values()}
        faults = []
        for file, (whole, number) in readings.items():
            reading = (number or whole) if numbered else (whole or number)
            if reading is None:
                faults.append(f"{file}: expected PICTURE_SAMPLE.png of a picture in original/")
                continue
            picture, sample = reading
            if (other := found[picture].setdefault(sample, file)) != file:
                faults.append(f"{file}: {other.name} is sample {sample} of {picture} already")
        return {name: dict(sorted(some.items())) for name, some in found.items() if some}, faults

    def logged(self) -> Iterator[dict[str, Any]]:
        """The lines of all processes' logs."""
        return read_lines((self.root / "sampled").glob("*.jsonl"))

    @property
    def snapshots(self) -> Path:
        """Where batches in mid-trajectory are kept."""
        return self.root / "sampled" / "unfinished"


Reading = tuple[str, int]  # a picture and which of its samples


def _readings(file: Path, pictures: Mapping[str, str]) -> tuple[Reading | None, Reading | None]:
    """What a file's name can mean: a picture's sample 0, and a sample with its number."""
    stem = normal_form(file.stem)
    if file.suffix.lower() != ".png":
        return None, None
    whole = (pictures[stem], 0) if stem in pictures else None
    match = re.fullmatch(r"(.+)_([0-9]+)", stem, re.DOTALL)
    of = pictures.get(match[1]) if match else None
    return whole, (of, int(match[2])) if match and of is not None else None

"""The folder of an evaluation: where its pictures lie, whoever made them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repaint_jax.pictures.finding import natural_order
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
        return json.loads(self.settings.read_text()) if self.settings.is_file() else {}

    def samples(self, method: str, mask: str) -> dict[str, dict[int, Path]]:
        """A method's results for one mask, by picture and sample."""
        pictures = self.pictures()
        found: dict[str, dict[int, Path]] = {name: {} for name in pictures}
        for file in (self.root / "inpainted" / method / mask).glob("*.png"):
            numbered = re.fullmatch(r"(.+)_(\d+)", file.stem)
            if numbered and numbered[1] in found:
                found[numbered[1]][int(numbered[2])] = file
            elif file.stem in found:
                found[file.stem][0] = file
        return {name: dict(sorted(found[name].items())) for name in pictures if found[name]}

    def logged(self) -> Iterator[dict[str, Any]]:
        """The lines of all processes' logs."""
        return read_lines((self.root / "sampled").glob("*.jsonl"))

    @property
    def snapshots(self) -> Path:
        """Where batches in mid-trajectory are kept."""
        return self.root / "sampled" / "unfinished"

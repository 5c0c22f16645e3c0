"""What a run says of itself while it goes: metrics.jsonl, speed.jsonl, TensorBoard, progress bar.

metrics.jsonl holds what does not depend on the machine's mood, so that the file of a run that was
killed and resumed equals, byte for byte, that of one which was not. Time is kept in speed.jsonl.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from repaint_jax.files import write_text
from repaint_jax.runtime.console import Bar, echo
from repaint_jax.training.step import Metrics

__all__ = ["Watch"]


class Watch:
    """Shows and writes the metrics of a run in `workdir`, from update `done` on."""

    def __init__(
        self, workdir: Path, *, done: int, num_steps: int, batch_size: int, tensorboard: bool
    ):
        """Drops the lines of updates after `done`, which will be made again."""
        self.batch_size = batch_size
        _truncate(workdir / "metrics.jsonl", done)
        _truncate(workdir / "speed.jsonl", done)
        self._metrics = (workdir / "metrics.jsonl").open("a", encoding="utf-8")
        self._speed = (workdir / "speed.jsonl").open("a", encoding="utf-8")
        self._board = _summary_writer(workdir / "tensorboard", done) if tensorboard else None
        self._bar = Bar(desc="compiling", initial=done, total=num_steps, unit="step")
        self._clock = time.perf_counter()

    def steps(self, metrics: Metrics) -> None:
        """Moves the progress bar by some updates, [n]; waits for them."""
        loss = float(np.mean(metrics.loss))
        self._bar.set_description("training", refresh=False)
        self._bar.set_postfix(
            loss=f"{loss:.4f}",
            refresh=False,
            **{"pictures/s": f"{self._bar.rate * self.batch_size:.0f}"},
        )
        self._bar.update(len(metrics.loss))

    def line(self, step: int, metrics: Metrics) -> None:
        """Writes the means over the updates since the last line, [n], which end in `step`."""
        means = {
            name: float(f"{np.mean(values, dtype=np.float64):.7g}")
            for name, values in metrics._asdict().items()
        }
        _append(self._metrics, {"step": step, **means})
        now = time.perf_counter()
        rate = len(metrics.loss) * self.batch_size / (now - self._clock)
        _append(self._speed, {"step": step, "pictures_per_second": round(rate, 2)})
        self._clock = now
        if self._board is not None:
            for name, value in means.items():
                self._board.add_scalar(f"train/{name}", value, step)
            self._board.add_scalar("train/pictures_per_second", rate, step)

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """Shows uint8[H, W, 3] in TensorBoard."""
        if self._board is not None:
            self._board.add_image(name, picture, step, dataformats="HWC")

    def skip_time(self) -> None:
        """Leaves what was done since the last line out of the speed."""
        self._clock = time.perf_counter()

    def close(self) -> None:
        """Closes the files."""
        for open_ in (self._metrics, self._speed, self._bar, self._board):
            if open_ is not None:
                open_.close()


def _truncate(path: Path, step: int) -> None:
    """Keeps the lines up to `step`; a line that was cut off in writing goes too."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n") and json.loads(line)["step"] <= step:
            kept.append(line)
    write_text(path, "".join(kept))


def _append(file: Any, row: dict[str, Any]) -> None:
    file.write(json.dumps(row) + "\n")
    file.flush()
    os.fsync(file.fileno())


def _summary_writer(folder: Path, done: int) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        echo(
            "no TensorBoard summaries: pip install 'repaint-jax[training]' to have them", sys.stderr
        )
        return None
    return SummaryWriter(str(folder), purge_step=done + 1)

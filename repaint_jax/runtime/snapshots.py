"""A batch in mid-trajectory, in a file: what a run that was killed goes on from."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from repaint_jax.runtime.files import replacing


class Snapshot(NamedTuple):
    """Where a batch stands.

    Attributes:
        calls: network calls done.
        seconds: spent on them.
        x: f32[N, H, W, C], the noisy pictures.
        film: the first picture after each stop so far, uint8[H, W, C], if that is wanted.
    """

    calls: int
    seconds: float
    x: np.ndarray
    film: tuple[np.ndarray, ...]


class SnapshotFile:
    """Keeps the last snapshot of one batch, at most every so many minutes."""

    def __init__(self, path: Path, minutes: float):
        self.path = path
        self._interval = 60 * minutes
        self._last = time.monotonic()

    def load(self) -> Snapshot | None:
        """The snapshot, or None where there is none."""
        if not self.path.is_file():
            return None
        try:
            with safe_open(self.path, framework="numpy") as file:
                facts = file.metadata() or {}
                x, film = file.get_tensor("x"), tuple(file.get_tensor("film"))
                return Snapshot(int(facts["calls"]), float(facts["seconds"]), x, film)
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            warnings.warn(f"{self.path} cannot be read ({error}); starting anew", stacklevel=2)
            return None

    def save_if_due(self, snapshot: Snapshot) -> None:
        """Replaces the file if its time has come; that it cannot be written ends no run."""
        if time.monotonic() - self._last >= self._interval:
            self._save(snapshot)
            self._last = time.monotonic()

    @contextmanager
    def saved_when_interrupted(self, latest: Callable[[], Snapshot]) -> Iterator[None]:
        """A user's Ctrl-C costs no time at all."""
        try:
            yield
        except KeyboardInterrupt:
            if latest().calls:
                self._save(latest())
            raise

    def remove(self) -> None:
        """What is finished needs no snapshot."""
        self.path.unlink(missing_ok=True)

    def _save(self, snapshot: Snapshot) -> None:
        frames = np.stack(snapshot.film) if snapshot.film else np.zeros(0, np.uint8)
        arrays = {"x": np.ascontiguousarray(snapshot.x), "film": frames}
        facts = {"calls": str(snapshot.calls), "seconds": repr(snapshot.seconds)}
        try:
            with replacing(self.path, durable=True) as temporary:
                save_file(arrays, temporary, facts)
        except (OSError, SafetensorError) as error:
            warnings.warn(
                f"{self.path} cannot be written ({error}); sampling goes on, but killed now it "
                "would start this batch anew",
                stacklevel=3,
            )

"""A batch in mid-trajectory, in a file: what a run that was killed goes on from."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from repaint_jax.files import replacing


class Snapshot(NamedTuple):
    """Where a batch stands.

    Attributes:
        steps: how many are done.
        seconds: spent on them.
        state: the method's, a pytree of arrays [N, ...].
        film: the first picture after each stop so far, uint8[H, W, C], if that is wanted.
    """

    steps: int
    seconds: float
    state: Any
    film: tuple[np.ndarray, ...]


class SnapshotFile:
    """Keeps the last snapshot of one batch, at most every so many minutes; none without a path."""

    def __init__(self, path: Path | None, minutes: float):
        self.path = path
        self._interval = 60 * minutes
        self._last = time.monotonic()

    def load(self, like: Any) -> Snapshot:
        """The snapshot of a state of `like`'s structure, or the beginning where there is none."""
        nothing = Snapshot(0, 0.0, like, ())
        if self.path is None or not self.path.is_file():
            return nothing
        try:
            with safe_open(self.path, framework="numpy") as file:
                facts = file.metadata() or {}
                leaves, structure = jax.tree.flatten(like)
                stored = [file.get_tensor(str(i)) for i in range(len(leaves))]
                film = tuple(file.get_tensor("film"))
                state = jax.tree.unflatten(structure, stored)
                return Snapshot(int(facts["steps"]), float(facts["seconds"]), state, film)
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            warnings.warn(f"{self.path} cannot be read ({error}); starting anew", stacklevel=2)
            return nothing

    def save_if_due(self, snapshot: Snapshot) -> None:
        """Replaces the file if its time has come; that it cannot be written ends no run."""
        if self.path and time.monotonic() - self._last >= self._interval:
            self._save(snapshot)
            self._last = time.monotonic()

    @contextmanager
    def saved_when_interrupted(self, latest: Callable[[], Snapshot]) -> Iterator[None]:
        """A user's Ctrl-C costs no time at all, nor does one who stops listening."""
        try:
            yield
        except (KeyboardInterrupt, GeneratorExit):
            if self.path and latest().steps:
                self._save(latest())
            raise

    def remove(self) -> None:
        """What is finished needs no snapshot."""
        if self.path:
            self.path.unlink(missing_ok=True)

    def _save(self, snapshot: Snapshot) -> None:
        assert self.path is not None
        leaves = jax.tree.leaves(snapshot.state)
        arrays = {str(i): np.ascontiguousarray(leaf) for i, leaf in enumerate(leaves)}
        arrays["film"] = np.stack(snapshot.film) if snapshot.film else np.zeros(0, np.uint8)
        facts = {"steps": snapshot.steps, "seconds": snapshot.seconds}
        try:
            with replacing(self.path, durable=True) as temporary:
                save_file(arrays, temporary, {name: repr(fact) for name, fact in facts.items()})
        except (OSError, SafetensorError) as error:
            warnings.warn(
                f"{self.path} cannot be written ({error}); sampling goes on, but killed now it "
                "would start this batch anew",
                stacklevel=3,
            )

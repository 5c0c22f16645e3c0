"""The bar that the scripts draw of a run."""

from __future__ import annotations

from typing import Any

from repaint_jax.runtime.batches import Progress
from repaint_jax.runtime.telling import Bar


class CallBar(Bar):
    """A progress bar of call equivalents over several batches."""

    def __init__(self, calls: float, **options: Any):
        super().__init__(
            total=calls,
            unit="call",
            desc="compiling",
            bar_format="{l_bar}{bar}| {n:.0f}/{total:.0f} [{elapsed}<{remaining}, {rate_fmt}]",
            **options,
        )
        self._before = Progress(0.0, 0.0)

    def begin(self, calls: float) -> None:
        """The next batch begins, which `calls` of the total were thought to be for."""
        self._before = Progress(0.0, calls)

    def follow(self, progress: Progress) -> None:
        """Shows how far the batch is."""
        before, self._before = self._before, progress
        self.total += progress.total - before.total
        resumed = progress.resumed - before.resumed
        self.initial += resumed
        self.n += resumed
        self.last_print_n += resumed
        new = progress.calls - before.calls - resumed
        if progress.x0 is not None:
            self.set_description("sampling", refresh=False)
        self.update(new)

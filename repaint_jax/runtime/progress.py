"""The bar that the scripts draw of a run, and a run with it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from typing import Any, NamedTuple

from repaint_jax.runtime.batches import Batches, Job, Progress, Sampled
from repaint_jax.runtime.console import Bar
from repaint_jax.sampler import Sampler


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


class Part(NamedTuple):
    """A batch of a run: its jobs, how they are sampled, and whether a film is kept."""

    jobs: Sequence[Job]
    sampler: Sampler
    film: bool = False


def sampled_with_bar(
    batches: Batches,
    parts: Iterable[Part],
    calls: float,
    *,
    is_done: Callable[[Job], bool] = lambda job: False,
    **options: Any,
) -> Generator[tuple[Part, Sampled], None, None]:
    """Samples batch after batch under one bar, and yields what is done, when it is.

    A batch is asked for when all before it are done. Close it, as it closes the batch that is on
    its way: see `Batches.run`, whose errors it raises. `calls` are those of all batches; `options`
    are the bar's.
    """
    with CallBar(calls, **options) as bar:
        for part in parts:
            bar.begin(part.sampler.total_calls)
            walk = batches.run(part.jobs, part.sampler, film=part.film, is_done=is_done)
            with closing(walk):
                for progress in walk:
                    bar.follow(progress)
                    if progress.sampled:
                        yield part, progress.sampled

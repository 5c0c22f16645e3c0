"""What a run says while it works: on a terminal a bar, elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, TextIO

from tqdm import tqdm

_EVERY = 60.0  # seconds between two lines where there is no terminal


def tell(text: str, file: TextIO | None = None) -> None:
    """Prints a line, on stdout by default, if anybody can hear it: printing never fails a run."""
    stream = file or sys.stdout
    # The disk below a log may be full, the reader of a pipe gone, the stream closed.
    with suppress(OSError, ValueError):
        encoding = getattr(stream, "encoding", None) or "utf-8"
        heard = text.encode(encoding, "backslashreplace").decode(encoding)
        print(heard, file=stream, flush=True)


class Bar(tqdm):
    """A progress bar; where there is no terminal, as in a cluster's log, a line a minute.

    Takes tqdm's arguments.
    """

    def __init__(self, iterable: Any = None, desc: str = "done", **options: Any):
        self._stream = options.get("file") or sys.stderr
        self._on_terminal = bool(getattr(self._stream, "isatty", lambda: False)())
        super().__init__(iterable, desc, disable=not self._on_terminal, **options)
        self._began = self._told = time.monotonic()
        if not self._on_terminal:
            self.desc, self.unit, self.postfix = desc, options.get("unit", "it"), ""
            self.delay, self.leave = options.get("delay", 0), options.get("leave", True)
            self.initial = self.last_print_n = self.n = options.get("initial", 0)

    def __iter__(self) -> Iterator[Any]:
        """The items; the bar moves on after each."""
        if self._on_terminal:
            yield from super().__iter__()
            return
        try:
            for item in self.iterable:
                yield item
                self.update()
        finally:
            self.close()

    def update(self, n: float = 1) -> None:
        """Counts what was done."""
        if self._on_terminal:
            with suppress(OSError):
                super().update(n)
            return
        self.n += n
        if time.monotonic() - self._told >= _EVERY:
            self._told = time.monotonic()
            tell(self._line(), self._stream)

    def close(self) -> None:
        """Ends the bar; where there is none, tells how it ended if it took as long as `delay`."""
        if self._on_terminal:
            with suppress(OSError):
                super().close()
        elif self.leave and time.monotonic() - self._began >= self.delay:
            self.leave = False
            tell(self._line(), self._stream)

    @property
    def rate(self) -> float:
        """How much was done in a second, on average; 0 before anything was."""
        return (self.n - self.initial) / max(time.monotonic() - self._began, 1e-9)

    def _line(self) -> str:
        """Such as "sampling: 120/280 calls, 01:00 gone, 01:20 left"."""
        gone = time.monotonic() - self._began
        of = "" if self.total is None else f"/{self.total:.0f}"
        line = f"{self.desc.removesuffix(': ')}: {self.n:.0f}{of} {self.unit}s, {_clock(gone)} gone"
        if self.total and self.rate and self.n < self.total:
            line += f", {_clock((self.total - self.n) / self.rate)} left"
        return f"{line}, {self.postfix}" if self.postfix else line


def _clock(seconds: float) -> str:
    return tqdm.format_interval(seconds)

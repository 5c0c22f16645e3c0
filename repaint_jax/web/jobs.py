"""One worker, which fills holes one after the other, and a queue before it that is not endless."""

from __future__ import annotations

import asyncio
import threading
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from repaint_jax.errors import ArgumentError
from repaint_jax.photographs import PhotoProgress
from repaint_jax.pictures.images import astronaut
from repaint_jax.pictures.masks import make_mask
from repaint_jax.pipeline import Pipeline
from repaint_jax.sampler import Sampler
from repaint_jax.web.choices import Choices, Clock
from repaint_jax.web.photos import Photo
from repaint_jax.web.refusals import Refused

MOST_WAITING = 8
_WARM_UP_SECONDS = 3.0


@dataclass(eq=False)
class Job:
    """A hole to fill, and how far that is.

    Attributes:
        owner: whose it is.
        photo: the photograph.
        hole: bool[H, W], what is to be filled.
        method: its name.
        sampler: how.
        options: of `Pipeline.stream_photo`, besides.
        state: "waiting", "running", "done", "cancelled" or "failed".
        message: why it failed.
        progress: the last that the pipeline told.
        seconds_left: as far as is known.
        seconds: what it has taken.
        pictures: the filled photographs, uint8[H, W, C] each.
    """

    owner: str
    photo: Photo
    hole: np.ndarray
    method: str
    sampler: Sampler
    options: dict[str, Any]
    state: str = "waiting"
    message: str = ""
    progress: PhotoProgress | None = None
    seconds_left: float | None = None
    seconds: float = 0.0
    pictures: list[np.ndarray] = field(default_factory=list)
    _listeners: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = field(default_factory=list)

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in ("done", "cancelled", "failed")

    def listen(self) -> asyncio.Event:
        """An event of the running loop, set whenever something is new."""
        event = asyncio.Event()
        self._listeners.append((asyncio.get_running_loop(), event))
        return event

    def tell(self, **changes: Any) -> None:
        """Changes attributes, and wakes who listens; a job that is over stays as it is."""
        if not self.over:
            for name, value in changes.items():
                setattr(self, name, value)
        for loop, event in self._listeners:
            with suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(event.set)


class Worker:
    """The thread that has the model.

    Attributes:
        state: "loading", "warming up", "ready" or "failed".
        pipeline: the model, None while it is loading.
        choices: likewise.
        clock: what calls have been seen to take.
        num_samples: for how many at once it is warmed up.
        fault: what went wrong with loading.
    """

    def __init__(
        self,
        load: Callable[[], tuple[Pipeline, Sampler | None]],
        *,
        num_samples: int = 4,
        on_settled: Callable[[], None] = lambda: None,
    ):
        """Loads the model, warms it up, calls `on_settled`, and waits for jobs."""
        self.state = "loading"
        self.pipeline: Pipeline | None = None
        self.choices: Choices | None = None
        self.clock = Clock()
        self.num_samples = num_samples
        self.fault: BaseException | None = None
        self._load, self._on_settled = load, on_settled
        self._running: Job | None = None
        self._waiting: list[Job] = []
        self._stopped = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the step that is under way."""
        with self._changed:
            self._stopped = True
            jobs = [*self._waiting, *([self._running] if self._running else [])]
            self._changed.notify()
        for job in jobs:
            job.tell(state="cancelled")

    def join(self, seconds: float) -> bool:
        """Waits for that; whether it has come."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def submit(self, job: Job) -> None:
        """Puts a job at the end of the queue.

        Raises:
            Refused: the queue is full.
        """
        with self._changed:
            if len(self._waiting) >= MOST_WAITING:
                raise Refused(
                    429, f"{MOST_WAITING} others are waiting already: try again in a minute"
                )
            self._waiting.append(job)
            self._changed.notify()

    def place(self, job: Job) -> int:
        """How many are to be done before a job."""
        with self._changed:
            if job not in self._waiting:
                return 0
            return self._waiting.index(job) + (self._running is not None)

    def cancel(self, job: Job) -> None:
        """Ends a job: at once for its owner, for the machine after the step that is under way."""
        job.tell(state="cancelled")
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
        self._tell_places()

    def _tell_places(self) -> None:
        """To those that wait."""
        with self._changed:
            waiting = list(self._waiting)
        for job in waiting:
            job.tell()

    def _run(self) -> None:
        try:
            pipeline, configured = self._load()
            self.choices = Choices.of(pipeline, configured)
            self.pipeline, self.state = pipeline, "warming up"
            self._warm_up(pipeline, self.choices)
            self.state = "ready"
        except BaseException as error:  # to be raised where the server was started
            self.fault, self.state = error, "failed"
        self._on_settled()
        while self.state == "ready" and self._work(pipeline):
            pass

    def _work(self, pipeline: Pipeline) -> bool:
        """Fills the next hole, of which nothing is held afterwards; False at the end of the day."""
        job = self._next()
        if job is None:
            return False
        self._tell_places()
        self._fill(pipeline, job)
        with self._changed:
            self._running = None
        return True

    def _next(self) -> Job | None:
        """The job whose turn it is; None at the end of the day."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopped)
            self._running = None if self._stopped else self._waiting.pop(0)
            return self._running

    def _warm_up(self, pipeline: Pipeline, choices: Choices) -> None:
        """Compiles what the page's first job will run, and measures it."""
        method, quality = choices.default
        image = astronaut(size=pipeline.shape, channels=pipeline.channels)
        hole = ~make_mask("half", pipeline.shape)
        options = {"num_samples": self.num_samples, "key": 0}
        job = Job(
            "", Photo(image), hole, method, choices.methods[method].qualities[quality], options
        )
        end = time.monotonic() + _WARM_UP_SECONDS  # unless it is not measured by then
        self._fill(pipeline, job, until=lambda: time.monotonic() > end and job.seconds_left)
        if job.state == "failed":
            raise RuntimeError(job.message)

    def _fill(self, pipeline: Pipeline, job: Job, until: Callable[[], Any] = lambda: False) -> None:
        """Fills a job's hole, as long as it is not cancelled."""
        job.tell(state="running")
        stream = pipeline.stream_photo(
            job.photo.whole(), ~job.hole, sampler=job.sampler, segment=1, **job.options
        )
        try:
            with closing(cast(Generator[PhotoProgress], stream)) as walk:
                for _ in self._timed(job, walk):
                    if job.over or self._stopped or until():
                        return
            assert job.progress is not None
            job.tell(state="done", pictures=job.progress.pictures)
        except (ArgumentError, FloatingPointError, MemoryError) as error:
            job.tell(state="failed", message=" ".join(str(error).split()))
        except Exception:  # a bug of ours, which the terminal shows; it holds no picture
            traceback.print_exc()
            job.tell(state="failed", message="something went wrong; the terminal tells what")

    def _timed(self, job: Job, walk: Generator[PhotoProgress]) -> Generator[PhotoProgress]:
        """A walk, of which the job is told how far it is, and how long it will take."""
        samples, began = job.options["num_samples"], time.monotonic()
        first: tuple[float, float] | None = None  # when, after how many calls
        for progress in walk:
            now = time.monotonic()
            first = first or (now, progress.calls)  # which was compiled before
            done = progress.calls - first[1]
            if done and not progress.pictures:
                self.clock.note(job.method, samples, (now - first[0]) / done)
            each = self.clock.seconds(job.method, samples)
            left = None if each is None else (progress.total - progress.calls) * each
            job.tell(progress=progress, seconds_left=left, seconds=now - began)
            yield progress

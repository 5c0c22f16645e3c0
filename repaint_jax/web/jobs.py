"""One worker, which fills holes one after the other, and a queue before it that is not endless."""

from __future__ import annotations

import asyncio
import threading
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import closing
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
_WARM_UP_SECONDS = 5.0


@dataclass(eq=False)
class Job:
    """A hole to fill, and how far that is.

    Attributes:
        owner: whose it is.
        photo: the photograph.
        hole: bool[H, W], what is to be filled.
        method: name of
        sampler: how.
        options: of `Pipeline.stream_photo`.
        state: "waiting", "running", "done", "cancelled" or "failed".
        message: why it failed.
        progress: the last that the pipeline told.
        seconds_left: as far as is known.
        pictures: the filled photographs, uint8[H, W, C] each.
        seconds: what filling took.
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
    pictures: list[np.ndarray] = field(default_factory=list)
    seconds: float = 0.0
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
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)


class Worker:
    """The thread that has the model.

    Attributes:
        state: "loading", "warming up", "ready" or "failed".
        pipeline: the model, None while it is loading.
        choices: likewise.
        clock: what calls have been seen to take.
        fault: what went wrong with loading.
    """

    def __init__(
        self,
        load: Callable[[], tuple[Pipeline, Sampler | None]],
        *,
        num_samples: int = 4,
        on_fault: Callable[[], None] = lambda: None,
    ):
        """Loads the model, warms it up for `num_samples` at once, and waits for jobs."""
        self.state = "loading"
        self.pipeline: Pipeline | None = None
        self.choices: Choices | None = None
        self.clock = Clock()
        self.fault: BaseException | None = None
        self.num_samples = num_samples
        self._load, self._on_fault = load, on_fault
        self._queue: list[Job] = []
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the step that is under way."""
        with self._changed:
            self._stopped = True
            for job in self._queue:
                job.tell(state="cancelled")
            self._changed.notify()

    def join(self, seconds: float) -> None:
        """Waits for that."""
        self._thread.join(seconds)

    def submit(self, job: Job) -> None:
        """Puts a job at the end of the queue.

        Raises:
            Refused: the queue is full.
        """
        with self._changed:
            if len(self._queue) > MOST_WAITING:
                raise Refused(
                    429, f"{MOST_WAITING} others are waiting already: try again in a minute"
                )
            self._queue.append(job)
            self._changed.notify()

    def place(self, job: Job) -> int:
        """How many are to be done before a job."""
        with self._changed:
            return self._queue.index(job) if job in self._queue else 0

    def cancel(self, job: Job) -> None:
        """Ends a job: at once for its owner, for the machine after the step that is under way."""
        job.tell(state="cancelled")
        with self._changed:
            if job in self._queue[1:]:
                self._queue.remove(job)
            waiting = list(self._queue)
        for other in waiting:
            other.tell()

    def _run(self) -> None:
        try:
            pipeline, configured = self._load()
            self.choices = Choices.of(pipeline, configured)
            self.pipeline, self.state = pipeline, "warming up"
            self._warm_up(pipeline, self.choices)
            self.state = "ready"
        except BaseException as error:  # to be raised where the server was started
            self.fault, self.state = error, "failed"
            self._on_fault()
            return
        while job := self._next():
            self._fill(pipeline, job)
            with self._changed:
                self._queue.remove(job)
                waiting = list(self._queue)
            for other in waiting:
                other.tell()

    def _next(self) -> Job | None:
        """The job at the head of the queue, which stays there while it is filled."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._stopped)
            return None if self._stopped else self._queue[0]

    def _warm_up(self, pipeline: Pipeline, choices: Choices) -> None:
        """Compiles what the page's first job will run, and measures it."""
        method, quality = choices.default
        image = astronaut(size=pipeline.shape, channels=pipeline.channels)
        hole = ~make_mask("half", pipeline.shape)
        options = {"num_samples": self.num_samples, "key": 0}
        sampler = choices.sampler(method, quality)
        job = Job("", Photo(image), hole, method, sampler, options)
        end = time.monotonic() + _WARM_UP_SECONDS  # from its first steps on
        self._fill(pipeline, job, until=lambda: time.monotonic() > end and job.seconds_left)
        if job.state == "failed":
            raise RuntimeError(job.message)

    def _fill(self, pipeline: Pipeline, job: Job, until: Callable[[], Any] = lambda: False) -> None:
        """Fills a job's hole, as long as it is not cancelled."""
        try:
            if job.over:
                return
            job.tell(state="running")
            samples = job.options["num_samples"]
            stream = pipeline.stream_photo(
                job.photo.whole(), ~job.hole, sampler=job.sampler, **job.options
            )
            began, first = time.monotonic(), None
            with closing(cast(Generator[PhotoProgress], stream)) as walk:
                for progress in walk:
                    now = time.monotonic()
                    first = first or (now, progress.calls)
                    done = progress.calls - first[1]
                    if done and not progress.pictures:  # the first steps compile
                        self.clock.note(job.method, samples, (now - first[0]) / done)
                    each = self.clock.seconds(job.method, samples)
                    left = None if each is None else (progress.total - progress.calls) * each
                    job.tell(progress=progress, seconds_left=left, seconds=now - began)
                    if job.over or self._stopped or until():
                        return
            job.tell(state="done", pictures=progress.pictures)
        except (ArgumentError, FloatingPointError, MemoryError, ValueError) as error:
            job.tell(state="failed", message=" ".join(str(error).split()))
        except Exception:  # a bug of ours, which the terminal shows; it holds no picture
            traceback.print_exc()
            job.tell(state="failed", message="something went wrong; the terminal tells what")

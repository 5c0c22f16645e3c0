"""How a job is, told to whom it belongs as server-sent events, as long as somebody listens."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from repaint_jax.pictures.windows import box_of
from repaint_jax.web import photos
from repaint_jax.web.jobs import Job, Worker

_BETWEEN_PREVIEWS = 0.1  # seconds


class JobEvents(StreamingResponse):
    """The events of a job, which ends with them: whoever goes away cancels it."""

    def __init__(
        self,
        worker: Worker,
        job: Job,
        name: str,
        *,
        woken: asyncio.Event,
        keep: Callable[[Job], list[str]],
        end: Callable[[], None],
    ):
        """Tells of a job.

        Args:
            worker: who has it.
            job: which.
            name: its id.
            woken: set whenever something is new.
            keep: keeps the results and returns their ids.
            end: called when nobody listens any more.
        """
        super().__init__(_events(worker, job, name, woken, keep), media_type="text/event-stream")
        self._worker, self._job, self._end = worker, job, end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._worker.cancel(self._job)
            self._end()


async def _events(
    worker: Worker, job: Job, name: str, woken: asyncio.Event, keep: Callable[[Job], list[str]]
) -> AsyncIterator[str]:
    yield _event("job", {"id": name})
    while not job.over:
        woken.clear()
        if job.state == "waiting":
            yield _event("waiting", {"place": worker.place(job), "state": worker.state})
        elif job.progress is None:
            yield _event("preparing", {})
        else:
            yield _event("progress", await run_in_threadpool(_progress, worker, job))
            await asyncio.sleep(_BETWEEN_PREVIEWS)
        await woken.wait()
    yield _event(job.state, await run_in_threadpool(_end, job, keep))


def _progress(worker: Worker, job: Job) -> dict[str, Any]:
    """How far a job is, with a preview of each sample."""
    progress, pipeline = job.progress, worker.pipeline
    assert progress is not None
    assert pipeline is not None
    encoded = [base64.b64encode(photos.preview_file(each)).decode() for each in progress.preview]
    return {
        "calls": progress.calls,
        "total": progress.total,
        "seconds_left": job.seconds_left,
        "window": progress.window._asdict(),
        "enlarged": progress.window.height / pipeline.shape[0],
        "previews": encoded,
    }


def _end(job: Job, keep: Callable[[Job], list[str]]) -> dict[str, Any]:
    if job.state == "failed":
        return {"message": job.message}
    if job.state != "done":
        return {}
    box = box_of(job.hole)
    return {"photos": keep(job), "box": box._asdict(), "seconds": job.seconds}


def _event(kind: str, data: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n"

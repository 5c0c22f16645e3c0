"""The routes: the page, photographs, masks, jobs. Everything is found by ids, nothing by a path.

What the page and the server agree on. Every request below /api/ has the header X-Repaint-Client, 32
hexadecimal digits that the browser's tab has drawn: things belong to it, and another's are not
found. Where the server asks for a token, each has `Authorization: Bearer TOKEN`, too; the address
that is printed ends in #token=TOKEN. `GET /` and `/NAME` are the files of static/.

| request | body | answer |
|---|---|---|
| GET /api/status | | {state, limits: {bytes, pixels}}, and once it is loaded {model: {shape: [H, W], channels}, num_samples: {choices, default}, default: [method, quality], methods: {NAME: {label, about, qualities: {NAME: call equivalents}, seconds: {SAMPLES: of one call equivalent, or null}}}} |
| POST /api/photos | a picture's file | {id, width, height, notes: [words]}; waits until the model is loaded |
| POST /api/portrait | | the same, of the portrait in the box |
| GET /api/photos/ID/view?left=&top=&width=&height=&to= | | JPEG or PNG of that part, `to` pixels wide at most and never enlarged |
| GET /api/photos/ID/file | | PNG at full size |
| POST /api/photos/ID/masks | a mask's file, white = keep | {id} |
| GET /api/masks/ID/view?to= | | PNG, opaque where the hole is |
| POST /api/photos/ID/mask | {strokes} | PNG at full size, white = keep |
| POST /api/archive | {photos: [ID]} | zip of PNGs |
| POST /api/jobs | {photo: ID, strokes, method, quality, samples, seed, window: "hole" or "whole", margin} | events, see below; to hang up is to cancel |
| DELETE /api/jobs/ID | | {state: "cancelled"}; 404 once it is over |

`state` is "loading", "warming up" or "ready"; strokes are those of strokes.py. A refusal is
{error: words for the person} with the status 400 (not understood), 401 (token), 403 (foreign page),
404 (not there, another's, or forgotten after an hour), 408 (too slow), 413 (too large), 415 (no
picture), 422 (does not fit) or 429 (queue full).

| event of a job | data |
|---|---|
| job | {id}, the first |
| waiting | {place: how many are before it, state: of the server} |
| preparing | {}: its turn, compiling |
| progress | {calls, total, seconds_left or null, window: {top, left, height, width}, enlarged: how many times the model's pixels are, previews: [base64 PNG of the window at the model's size, one a sample]} |
| done | {photos: [ID], one a sample, box: {top, left, height, width} that holds all that was filled, seconds} |
| failed | {message} |
| cancelled | {} |
"""  # noqa: E501

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from repaint_jax.pictures.windows import Window, box_of
from repaint_jax.web import photos
from repaint_jax.web.choices import NUM_SAMPLES
from repaint_jax.web.events import JobEvents
from repaint_jax.web.jobs import Job, Worker
from repaint_jax.web.photos import Photo
from repaint_jax.web.reading import body_of, integer_of, json_of, number_of, one_of
from repaint_jax.web.refusals import Refused
from repaint_jax.web.security import Guard, client_of, refusal
from repaint_jax.web.store import Store
from repaint_jax.web.strokes import hole_of

_BETWEEN_CLEANINGS = 60.0  # seconds
_KINDS = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


def application(worker: Worker, *, host: str, token: str | None = None) -> Guard:
    """The whole server, as an ASGI application."""
    server = Server(worker)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        cleaning = asyncio.create_task(server.clean())
        yield
        cleaning.cancel()
        with suppress(asyncio.CancelledError):
            await cleaning

    app = Starlette(
        routes=[*server.routes(), *_static()],
        exception_handlers={Refused: _refused, HTTPException: _refused, ClientDisconnect: _refused},
        lifespan=lifespan,
    )
    return Guard(app, host=host, token=token)


async def _refused(request: Request, error: Exception) -> Response:
    """Every refusal in words."""
    if isinstance(error, HTTPException):
        error = Refused(error.status_code, f"the server has nothing for {request.method} here")
    if isinstance(error, ClientDisconnect):  # nobody will read it
        error = Refused(400, "the request ended in the middle")
    assert isinstance(error, Refused)
    return refusal(error)


def _static() -> list[Route]:
    """The page's own files, read once: no request's path becomes a file's."""

    def route(path: str, content: bytes, kind: str) -> Route:
        async def endpoint(request: Request) -> Response:
            return Response(content, media_type=kind)

        return Route(path, endpoint)

    routes = []
    for file in files("repaint_jax.web").joinpath("static").iterdir():
        kind = _KINDS.get(file.name.rpartition(".")[2])
        if kind:
            path = "/" if file.name == "index.html" else f"/{file.name}"
            routes.append(route(path, file.read_bytes(), kind))
    return routes


class Server:
    """What the routes share: the worker, and what people have brought and got."""

    def __init__(self, worker: Worker):
        """With empty stores."""
        self.worker = worker
        self.photos: Store[Photo] = Store("picture")
        self.masks: Store[np.ndarray] = Store("mask")
        self.jobs: Store[Job] = Store("job", seconds=math.inf)  # dropped when they are over

    def routes(self) -> list[Route]:
        """Those of the table."""
        return [
            Route("/api/status", self.status),
            Route("/api/photos", self.open_photo, methods=["POST"]),
            Route("/api/portrait", self.open_portrait, methods=["POST"]),
            Route("/api/photos/{photo}/view", self.view_photo),
            Route("/api/photos/{photo}/file", self.download_photo),
            Route("/api/photos/{photo}/masks", self.upload_mask, methods=["POST"]),
            Route("/api/photos/{photo}/mask", self.download_mask, methods=["POST"]),
            Route("/api/masks/{mask}/view", self.view_mask),
            Route("/api/archive", self.download_all, methods=["POST"]),
            Route("/api/jobs", self.fill, methods=["POST"]),
            Route("/api/jobs/{job}", self.cancel, methods=["DELETE"]),
        ]

    async def clean(self) -> None:
        """Forgets what has had its time, though nobody asks for anything."""
        while True:
            await asyncio.sleep(_BETWEEN_CLEANINGS)
            self.photos.forget()
            self.masks.forget()

    async def status(self, request: Request) -> Response:
        """How far the model is, and what there is to choose."""
        worker = self.worker
        answer: dict[str, Any] = {
            "state": worker.state,
            "limits": {"bytes": photos.LARGEST_FILE, "pixels": photos.LARGEST_PICTURE},
        }
        if worker.pipeline and worker.choices:
            pipeline = worker.pipeline
            answer["model"] = {"shape": pipeline.shape, "channels": pipeline.channels}
            answer["num_samples"] = {"choices": NUM_SAMPLES, "default": worker.num_samples}
            answer["default"] = worker.choices.default
            answer["methods"] = worker.choices.told(worker.clock)
        return JSONResponse(answer)

    async def open_photo(self, request: Request) -> Response:
        """Takes a picture's file, the body of the request."""
        content, channels = await body_of(request, photos.LARGEST_FILE), await self._channels()
        photo = await run_in_threadpool(photos.read_photo, content, channels)
        return self._told(request, photo)

    async def open_portrait(self, request: Request) -> Response:
        """Opens the portrait in the box."""
        return self._told(request, photos.portrait(await self._channels()))

    async def _channels(self) -> int:
        """Of the model's pictures, which a photograph must have, too: waits for the model."""
        while self.worker.pipeline is None:
            if self.worker.fault is not None:
                raise Refused(503, "the model cannot be loaded: the terminal tells why")
            await asyncio.sleep(0.05)
        return self.worker.pipeline.channels

    def _told(self, request: Request, photo: Photo) -> Response:
        name = self.photos.put(client_of(request), photo, photo.num_bytes)
        height, width = photo.shape
        return JSONResponse({"id": name, "width": width, "height": height, "notes": photo.notes})

    def _photo(self, request: Request, name: Any, *, renew: bool = False) -> Photo:
        return self.photos.get(client_of(request), str(name), renew=renew)

    async def view_photo(self, request: Request) -> Response:
        """A part of a photograph at the size of a screen."""
        photo = self._photo(request, request.path_params["photo"])
        names = ("top", "left", "height", "width", "to")
        *box, to = (integer_of(request, name) for name in names)
        content, kind = await run_in_threadpool(photos.view, photo, Window(*box), to)
        return Response(content, media_type=kind)

    async def download_photo(self, request: Request) -> Response:
        """A photograph as PNG."""
        photo = self._photo(request, request.path_params["photo"])
        content = await run_in_threadpool(photos.photo_file, photo)
        return Response(content, media_type="image/png")

    async def upload_mask(self, request: Request) -> Response:
        """Takes a mask's file for a photograph; white is kept."""
        content = await body_of(request, photos.LARGEST_FILE)
        photo = self._photo(request, request.path_params["photo"], renew=True)
        known = await run_in_threadpool(photos.read_known, content, photo.shape)
        return JSONResponse({"id": self.masks.put(client_of(request), known, known.nbytes)})

    async def view_mask(self, request: Request) -> Response:
        """An uploaded mask at the size of a screen."""
        known = self.masks.get(client_of(request), request.path_params["mask"])
        content = await run_in_threadpool(photos.mask_view, known, integer_of(request, "to"))
        return Response(content, media_type="image/png")

    async def download_mask(self, request: Request) -> Response:
        """The strokes of a photograph as a mask's file."""
        order = await json_of(request)
        photo = self._photo(request, request.path_params["photo"])
        hole = await run_in_threadpool(self._hole, request, photo, order)
        content = await run_in_threadpool(photos.mask_file, hole)
        return Response(content, media_type="image/png")

    async def download_all(self, request: Request) -> Response:
        """Several photographs as a zip."""
        names = (await json_of(request)).get("photos")
        if not isinstance(names, list) or not 0 < len(names) <= 100:
            raise Refused(422, "a list of at most 100 pictures is expected")
        found = [self._photo(request, name) for name in names]
        content = await run_in_threadpool(photos.archive, found)
        return Response(content, media_type="application/zip")

    async def fill(self, request: Request) -> Response:
        """Fills a hole, and tells of it as long as somebody listens."""
        order = await json_of(request)
        job = await run_in_threadpool(self._job, request, order)
        woken = job.listen()
        self.worker.submit(job)
        name = self.jobs.put(job.owner, job)
        return JobEvents(
            self.worker, job, name, woken=woken, keep=self._keep, end=lambda: self.jobs.drop(name)
        )

    async def cancel(self, request: Request) -> Response:
        """Cancels a job."""
        job = self.jobs.get(client_of(request), request.path_params["job"])
        if job.over:  # and forgotten in a moment
            raise Refused(404, "there is no such job: it is over")
        self.worker.cancel(job)
        return JSONResponse({"state": "cancelled"})

    def _job(self, request: Request, order: dict[str, Any]) -> Job:
        """What is asked for, checked."""
        photo = self._photo(request, order.get("photo"), renew=True)
        choices = self.worker.choices
        assert choices is not None  # there are photographs
        method = one_of(order, "method", tuple(choices.methods))
        qualities = choices.methods[method].qualities
        sampler = qualities[one_of(order, "quality", tuple(qualities))]
        options = {
            "num_samples": one_of(order, "samples", NUM_SAMPLES),
            "key": int(number_of(order, "seed", 0, 2**32 - 1)),
            "window": one_of(order, "window", ("hole", "whole")),
            "margin": float(number_of(order, "margin", 0, 4)),
        }
        hole = self._hole(request, photo, order)
        if not hole.any():
            raise Refused(422, "nothing is painted: paint over what is to be filled")
        return Job(client_of(request), photo, hole, method, sampler, options)

    def _hole(self, request: Request, photo: Photo, order: dict[str, Any]) -> np.ndarray:
        def uploaded(name: str) -> np.ndarray:
            return self.masks.get(client_of(request), name, renew=True)

        return hole_of(order.get("strokes"), photo.shape, uploaded)

    def _keep(self, job: Job) -> list[str]:
        """Keeps what came of a job, as what it adds to the photograph; returns the ids."""
        box = box_of(job.hole)
        filled = [job.photo.filled(box, picture) for picture in job.pictures]
        return [self.photos.put(job.owner, photo, photo.num_bytes) for photo in filled]

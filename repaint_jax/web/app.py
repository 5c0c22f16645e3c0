"""The routes: the page, photographs, masks, jobs. Everything is found by ids, nothing by a path.

What the page and the server agree on. Every request below /api/ has the header X-Repaint-Client, 32
hexadecimal digits that the browser's tab has drawn: things belong to it, and another's are not
found. Where the server asks for a token, each has `Authorization: Bearer TOKEN`, too; the address
that is printed ends in #token=TOKEN. `GET /` and `/NAME` are the files of static/.

| request | body | answer |
|---|---|---|
| GET /api/status | | {state, limits: {bytes, pixels}}, and once it is loaded {model: {shape: [H, W], channels}, num_samples: {choices, default}, default: [method, quality], methods: {NAME: {label, about, qualities: {NAME: call equivalents}, seconds: {SAMPLES: of one call equivalent, or null}}}} |
| POST /api/photos | a picture's file | {id, width, height, notes: [words]} |
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
picture), 422 (does not fit), 429 (queue full) or 503 (still loading).

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
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from repaint_jax.errors import ArgumentError
from repaint_jax.pictures.windows import Window
from repaint_jax.web import photos
from repaint_jax.web.choices import NUM_SAMPLES, check_number
from repaint_jax.web.jobs import Job, Worker
from repaint_jax.web.photos import Photo
from repaint_jax.web.refusals import Refused
from repaint_jax.web.security import Guard, client_of, refusal
from repaint_jax.web.store import Store
from repaint_jax.web.strokes import hole_of

_LARGEST_JSON = 16 << 20  # bytes of strokes
_SLOWEST_BODY = 120.0  # seconds
_BETWEEN_PREVIEWS = 0.1  # seconds
_KINDS = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

Handler = Callable[["Server", Request], Awaitable[Response]]


class Server:
    """What the routes share: the worker, and what people have brought and got."""

    def __init__(self, worker: Worker):
        """With empty stores."""
        self.worker = worker
        self.photos: Store[Photo] = Store("picture")
        self.masks: Store[np.ndarray] = Store("mask")
        self.jobs: Store[Job] = Store("job")

    @property
    def channels(self) -> int:
        """Of the model's pictures; colour as long as it is not there."""
        return self.worker.pipeline.channels if self.worker.pipeline else 3


def application(worker: Worker, *, host: str, token: str | None = None) -> Guard:
    """The whole server, as an ASGI application."""
    server = Server(worker)
    routes = [
        _route("/api/status", "GET", status, server),
        _route("/api/photos", "POST", open_photo, server),
        _route("/api/portrait", "POST", open_portrait, server),
        _route("/api/photos/{photo}/view", "GET", view_photo, server),
        _route("/api/photos/{photo}/file", "GET", download_photo, server),
        _route("/api/photos/{photo}/masks", "POST", upload_mask, server),
        _route("/api/photos/{photo}/mask", "POST", download_mask, server),
        _route("/api/masks/{mask}/view", "GET", view_mask, server),
        _route("/api/archive", "POST", download_all, server),
        _route("/api/jobs", "POST", fill, server),
        _route("/api/jobs/{job}", "DELETE", cancel, server),
        *_static(),
    ]
    return Guard(Starlette(routes=routes), host=host, token=token)


def _route(path: str, method: str, handler: Handler, server: Server) -> Route:
    """A route whose refusals are answered in JSON."""

    async def endpoint(request: Request) -> Response:
        try:
            return await handler(server, request)
        except Refused as refused:
            return refusal(refused)
        except ArgumentError as error:
            return refusal(Refused(422, str(error)))
        except ClientDisconnect:
            return refusal(Refused(400, "the request ended in the middle"))

    return Route(path, endpoint, methods=[method])


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


async def status(server: Server, request: Request) -> Response:
    """How far the model is, and what there is to choose."""
    worker = server.worker
    answer: dict[str, Any] = {"state": worker.state}
    if worker.pipeline and worker.choices:
        pipeline, choices = worker.pipeline, worker.choices
        answer["model"] = {"shape": pipeline.shape, "channels": pipeline.channels}
        answer["num_samples"] = {"choices": NUM_SAMPLES, "default": worker.num_samples}
        answer["default"] = choices.default
        answer["methods"] = {
            name: {
                "label": choice.label,
                "about": choice.about,
                "qualities": {
                    quality: sampler.total_calls for quality, sampler in choice.qualities.items()
                },
                "seconds": {n: worker.clock.seconds(name, n) for n in NUM_SAMPLES},
            }
            for name, choice in choices.methods.items()
        }
    return JSONResponse(answer)


async def open_photo(server: Server, request: Request) -> Response:
    """Takes a picture's file, the body of the request."""
    content = await _body(request, photos.LARGEST_FILE)
    photo = await run_in_threadpool(photos.read_photo, content, server.channels)
    return _told(server, request, photo)


async def open_portrait(server: Server, request: Request) -> Response:
    """Opens the portrait in the box."""
    return _told(server, request, photos.portrait(server.channels))


def _told(server: Server, request: Request, photo: Photo) -> Response:
    name = server.photos.put(client_of(request), photo, photo.num_bytes)
    height, width = photo.shape
    return JSONResponse({"id": name, "width": width, "height": height, "notes": photo.notes})


def _photo(server: Server, request: Request, *, renew: bool = False) -> Photo:
    return server.photos.get(client_of(request), request.path_params["photo"], renew=renew)


async def view_photo(server: Server, request: Request) -> Response:
    """A part of a photograph at the size of a screen: ?left=&top=&width=&height=&to=."""
    photo = _photo(server, request)
    numbers = [_integer(request, name) for name in ("top", "left", "height", "width", "to")]
    *box, width = numbers
    content, kind = await run_in_threadpool(photos.view, photo, Window(*box), width)
    return Response(content, media_type=kind)


async def download_photo(server: Server, request: Request) -> Response:
    """A photograph as PNG."""
    content = await run_in_threadpool(photos.photo_file, _photo(server, request))
    return Response(content, media_type="image/png")


async def upload_mask(server: Server, request: Request) -> Response:
    """Takes a mask's file for a photograph; white is kept."""
    photo = _photo(server, request, renew=True)
    content = await _body(request, photos.LARGEST_FILE)
    known = await run_in_threadpool(photos.read_known, content, photo.shape)
    return JSONResponse({"id": server.masks.put(client_of(request), known, known.nbytes)})


async def view_mask(server: Server, request: Request) -> Response:
    """An uploaded mask at the size of a screen: ?to=."""
    known = server.masks.get(client_of(request), request.path_params["mask"])
    content = await run_in_threadpool(photos.mask_view, known, _integer(request, "to"))
    return Response(content, media_type="image/png")


async def download_mask(server: Server, request: Request) -> Response:
    """The strokes of a photograph as a mask's file."""
    photo = _photo(server, request)
    strokes = await _json(request)
    hole = await run_in_threadpool(_hole, server, client_of(request), photo, strokes)
    content = await run_in_threadpool(photos.mask_file, hole)
    return Response(content, media_type="image/png")


async def download_all(server: Server, request: Request) -> Response:
    """Several photographs as a zip."""
    names = (await _json(request)).get("photos")
    if not isinstance(names, list) or not 0 < len(names) <= 100:
        raise Refused(422, "a list of at most 100 pictures is expected")
    found = [server.photos.get(client_of(request), str(name)) for name in names]
    content = await run_in_threadpool(photos.archive, found)
    return Response(content, media_type="application/zip")


async def fill(server: Server, request: Request) -> Response:
    """Fills a hole, and tells of it as server-sent events as long as somebody listens."""
    order = await _json(request)
    owner = client_of(request)
    photo = server.photos.get(owner, str(order.get("photo")), renew=True)
    job = await run_in_threadpool(_job, server, owner, photo, order)
    woken = job.listen()
    server.worker.submit(job)
    name = server.jobs.put(owner, job)
    return StreamingResponse(
        _events(server, request, name, job, woken), media_type="text/event-stream"
    )


async def cancel(server: Server, request: Request) -> Response:
    """Cancels a job."""
    job = server.jobs.get(client_of(request), request.path_params["job"])
    server.worker.cancel(job)
    return JSONResponse({"state": job.state})


def _job(server: Server, owner: str, photo: Photo, order: dict[str, Any]) -> Job:
    """What is asked for, checked."""
    worker = server.worker
    if worker.choices is None:
        raise Refused(503, "the model is still loading: try again in a moment")
    method, quality = str(order.get("method")), str(order.get("quality"))
    try:
        sampler = worker.choices.sampler(method, quality)
    except KeyError as error:
        raise Refused(422, "there is no such method or quality") from error
    num_samples, window = order.get("samples"), order.get("window")
    if num_samples not in NUM_SAMPLES or window not in ("hole", "whole"):
        raise Refused(422, f"expected samples of {NUM_SAMPLES}, and a window of hole or whole")
    options = {
        "num_samples": num_samples,
        "key": int(check_number("seed", order.get("seed"), 0, 2**32 - 1)),
        "window": window,
        "margin": float(check_number("margin", order.get("margin"), 0, 4)),
    }
    hole = _hole(server, owner, photo, order)
    if not hole.any():
        raise Refused(422, "nothing is painted: paint over what is to be filled")
    return Job(owner, photo, hole, method, sampler, options)


def _hole(server: Server, owner: str, photo: Photo, order: dict[str, Any]) -> np.ndarray:
    def uploaded(name: str) -> np.ndarray:
        return server.masks.get(owner, name, renew=True)

    return hole_of(order.get("strokes"), photo.shape, uploaded)


async def _events(
    server: Server, request: Request, name: str, job: Job, woken: asyncio.Event
) -> AsyncIterator[str]:
    """What the page is told of a job; whoever goes away cancels it."""
    try:
        yield _event("job", {"id": name})
        while not job.over:
            if job.state == "waiting":
                place = server.worker.place(job)
                yield _event("waiting", {"place": place, "state": server.worker.state})
            elif job.progress is not None:
                yield _event("progress", await run_in_threadpool(_progress, job))
            else:
                yield _event("preparing", {})
            await _news(request, job, woken)
        yield _event(job.state, await run_in_threadpool(_end, server, job))
    finally:
        server.worker.cancel(job)


async def _news(request: Request, job: Job, woken: asyncio.Event) -> None:
    """Waits for something new, but not for a client that has gone."""
    while not woken.is_set():
        if await request.is_disconnected():
            raise asyncio.CancelledError
        try:
            await asyncio.wait_for(woken.wait(), 0.25)
        except TimeoutError:
            continue
    if not job.over:
        await asyncio.sleep(_BETWEEN_PREVIEWS)
    woken.clear()


def _progress(job: Job) -> dict[str, Any]:
    """How far a job is, with a preview of each sample."""
    progress = job.progress
    assert progress is not None
    encoded = [base64.b64encode(photos.preview_file(each)).decode() for each in progress.preview]
    return {
        "calls": progress.calls,
        "total": progress.total,
        "seconds_left": job.seconds_left,
        "window": progress.window._asdict(),
        "previews": encoded,
    }


def _end(server: Server, job: Job) -> dict[str, Any]:
    """What came of a job; its pictures are kept as what they add to the photograph."""
    if job.state == "failed":
        return {"message": job.message}
    if job.state != "done":
        return {}
    box = photos.box_of(job.hole)
    filled = [job.photo.filled(box, picture) for picture in job.pictures]
    job.pictures = []
    ids = [server.photos.put(job.owner, photo, photo.num_bytes) for photo in filled]
    return {"photos": ids, "box": box._asdict(), "seconds": job.seconds}


def _event(kind: str, data: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n"


async def _body(request: Request, most: int) -> bytes:
    """The body of a request that is not too large, nor too slow."""
    told = request.headers.get("content-length", "0")
    message = f"that is too large: at most {most >> 20} MB are taken"
    if not told.isdecimal() or int(told) > most:
        raise Refused(413, message)
    parts, size = [], 0
    try:
        async with asyncio.timeout(_SLOWEST_BODY):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise Refused(413, message)
                parts.append(part)
    except TimeoutError as error:
        raise Refused(408, "that took too long to arrive") from error
    return b"".join(parts)


async def _json(request: Request) -> dict[str, Any]:
    content = await _body(request, _LARGEST_JSON)
    try:
        found = await run_in_threadpool(json.loads, content)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "the request is no JSON") from error
    if not isinstance(found, dict):
        raise Refused(400, "the request is no JSON object")
    return found


def _integer(request: Request, name: str) -> int:
    text = request.query_params.get(name, "")
    if not text.isascii() or not text.isdecimal() or len(text) > 7:
        raise Refused(422, f"{name}: a whole number is expected")
    return int(text)

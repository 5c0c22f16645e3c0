"""What comes with a request, read within bounds of size and time."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from repaint_jax.web.refusals import Refused

_LARGEST_JSON = 16 << 20  # bytes of strokes
_MOST_READ = (
    1 << 30
)  # bytes of what is too large: a browser hears the refusal only after its upload
_SECONDS = 120.0


async def body_of(request: Request, most: int) -> bytes:
    """The body of a request.

    Raises:
        Refused: it has more than `most` bytes, or takes too long.
        ClientDisconnect: it ends in the middle.
    """
    told = request.headers.get("content-length", "0")
    length = int(told) if told.isdecimal() else 0
    parts, size = [], 0
    try:
        async with asyncio.timeout(_SECONDS):
            async for part in request.stream():
                size += len(part)
                if max(size, length) <= most:
                    parts.append(part)
                elif max(size, length) > _MOST_READ:
                    break
                else:
                    parts.clear()
    except TimeoutError as error:
        raise Refused(408, "that took too long to arrive") from error
    if max(size, length) > most:
        raise Refused(413, f"that is too large: at most {most >> 20} MB are taken")
    return b"".join(parts)


async def json_of(request: Request) -> dict[str, Any]:
    """The body of a request as a JSON object.

    Raises:
        Refused: it is none, or as `body_of` does.
    """
    content = await body_of(request, _LARGEST_JSON)
    try:
        found = await run_in_threadpool(json.loads, content)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "the request is no JSON") from error
    if not isinstance(found, dict):
        raise Refused(400, "the request is no JSON object")
    return found


def integer_of(request: Request, name: str) -> int:
    """A whole number of the query, at least 0."""
    text = request.query_params.get(name, "")
    if not text.isascii() or not text.isdecimal() or len(text) > 7:
        raise Refused(422, f"{name}: a whole number is expected")
    return int(text)


def number_of(order: dict[str, Any], name: str, least: float, most: float) -> float:
    """A number of a JSON object."""
    value: Any = order.get(name)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not least <= value <= most:
        raise Refused(422, f"{name}: expected a number from {least} to {most}, not {value!r:.40}")
    return value


def one_of(order: dict[str, Any], name: str, choices: tuple[Any, ...]) -> Any:
    """One of several values of a JSON object."""
    value = order.get(name)
    if isinstance(value, bool) or value not in choices:
        listed = ", ".join(map(str, choices))
        raise Refused(422, f"{name}: expected one of {listed}, not {value!r:.40}")
    return value

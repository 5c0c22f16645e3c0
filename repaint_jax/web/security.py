"""Who may ask: one host name, the page's own scripts, and elsewhere than here who has the token."""

from __future__ import annotations

import hmac
import ipaddress
import re
import socket
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from repaint_jax.web.refusals import Refused

CLIENT = "x-repaint-client"  # the header that no form and no foreign page can send

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}


class Guard:
    """Refuses what is not for this server, and says to browsers what the page may do."""

    def __init__(self, app: ASGIApp, *, host: str, token: str | None = None):
        """Guards an application that listens on `host`; a token is needed by all API requests."""
        self._app, self._host, self._token = app, host, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        try:
            self._check(Headers(scope=scope), scope["path"])
        except Refused as refused:
            return await refusal(refused)(scope, receive, send_with_headers)
        await self._app(scope, receive, send_with_headers)

    def _check(self, headers: Headers, path: str) -> None:
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or not is_served(host, self._host):
            raise Refused(400, "this server has another name: take the address that it printed")
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            raise Refused(403, "only this server's own page may ask")
        if not path.startswith("/api/"):
            return  # a link to the page may stand anywhere
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            raise Refused(403, "only this server's own page may ask")
        if self._token is not None:
            given = headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), self._token.encode()):
                raise Refused(401, "the token is missing or wrong: it is in the address that the "
                                   "server printed")  # fmt: skip
        if not re.fullmatch("[0-9a-f]{32}", headers.get(CLIENT, "")):
            raise Refused(403, f"a request needs the header {CLIENT}, 32 hexadecimal digits")


def client_of(request: Request) -> str:
    """Who asks: a random number of the browser's tab."""
    return request.headers[CLIENT]


def refusal(refused: Refused, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """What a refused request is answered."""
    return JSONResponse({"error": refused.message}, refused.status, headers)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_served(header: str, host: str) -> bool:
    """Whether a Host header names a server that listens on `host`.

    On loopback these are the names of this machine alone: another name that leads here is an attack
    (DNS rebinding). Elsewhere it is `host` itself, this machine's own name, or any address in
    numbers, which no DNS makes.
    """
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:/@\s]+)(:\d+)?", header)
    if found is None:
        return False
    name = found[1].lower()
    if is_loopback(host):
        return is_loopback(name)
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name in (host.lower(), socket.gethostname().lower(), "localhost")
    return True

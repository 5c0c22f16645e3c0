"""The server: up at once, with the model on its way."""

from __future__ import annotations

import os
import secrets
import socket
import sys
import time
import warnings
from collections.abc import Callable

import uvicorn

from repaint_jax.errors import ArgumentError
from repaint_jax.pipeline import Pipeline
from repaint_jax.runtime.console import echo
from repaint_jax.sampler import Sampler
from repaint_jax.web.app import application
from repaint_jax.web.jobs import Worker
from repaint_jax.web.security import Guard, is_loopback

_GRACE = 2.0  # seconds for the step that is under way


class PageServer(uvicorn.Server):
    """A server that ends its worker's jobs before it waits for those who listen to them."""

    def __init__(self, app: Guard, worker: Worker):
        """Serves an application; nothing is written down of what a person does."""
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
                date_header=False,
                limit_concurrency=200,
                timeout_graceful_shutdown=2,
            )
        )
        self._worker = worker

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends all that is under way."""
        self._worker.stop()
        await super().shutdown(sockets)


def serve(
    load: Callable[[], tuple[Pipeline, Sampler | None]],
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    num_samples: int = 4,
) -> None:
    """Serves the page until it is interrupted.

    Args:
        load: makes the model and, if one is to be the default, a sampler.
        host: where to listen. Others than this machine need a token, which is printed once.
        port: likewise; 0 takes a free one.
        num_samples: at first; a person may take another number.

    Raises:
        ArgumentError: it cannot listen there.
        BaseException: whatever `load` raises.
    """
    began = time.monotonic()
    listener = listening(host, port)
    token = None if is_loopback(host) else secrets.token_urlsafe(24)

    def on_settled() -> None:
        if worker.fault is None:
            echo(f"the model is ready after {time.monotonic() - began:.0f} s")
        else:
            server.should_exit = True

    worker = Worker(load, num_samples=num_samples, on_settled=on_settled)
    server = PageServer(application(worker, host=host, token=token), worker)
    # The page says so itself, to the person whose hole it is.
    warnings.filterwarnings("ignore", message="the model's .* pixels are enlarged")
    echo(invitation(host, listener.getsockname()[1], token))
    worker.start()
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        if not worker.join(_GRACE):  # in the middle of a compilation, which cannot be ended
            sys.stdout.flush()
            os._exit(0)
    if worker.fault is not None:
        raise worker.fault


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens there."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = error.strerror if isinstance(error, OSError) else error
        raise ArgumentError(
            "host" if isinstance(error, socket.gaierror) else "port",
            f"cannot listen at {host}:{port} ({reason}): take another one",
        ) from error
    return listener


def invitation(host: str, port: int, token: str | None) -> str:
    """Where the page is, and what it means where others can reach it."""
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host
    at = f"[{name}]" if ":" in name else name
    if token is None:
        return f"open http://{at}:{port} (Ctrl-C ends it)"
    return (
        f"open http://{at}:{port}/#token={token} (Ctrl-C ends it)\n"
        "Who reaches this machine and has this address can use the model and this machine's time, "
        "and what is sent is not encrypted: give the address to nobody else, and take a tunnel "
        "(ssh -L) through networks that are not yours."
    )

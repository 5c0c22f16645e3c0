"""The server: up at once, with the model on its way."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Callable

import uvicorn

from repaint_jax.errors import ArgumentError
from repaint_jax.pipeline import Pipeline
from repaint_jax.runtime.console import echo
from repaint_jax.sampler import Sampler
from repaint_jax.web.app import application
from repaint_jax.web.jobs import Worker
from repaint_jax.web.security import is_loopback

_GRACE = 10.0  # seconds for the step that is under way


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
    listener = _listen(host, port)
    port = listener.getsockname()[1]
    token = None if is_loopback(host) else secrets.token_urlsafe(24)
    began = time.monotonic()

    def on_fault() -> None:
        server.should_exit = True

    worker = Worker(load, num_samples=num_samples, on_fault=on_fault)
    config = uvicorn.Config(
        application(worker, host=host, token=token),
        log_level="warning",
        access_log=False,  # nothing is written down of what a person does
        server_header=False,
        date_header=False,
        lifespan="off",
        timeout_graceful_shutdown=2,
        h11_max_incomplete_event_size=1 << 16,
    )
    server = uvicorn.Server(config)
    _tell(host, port, token)
    worker.start()
    threading.Thread(target=_tell_ready, args=(worker, began), daemon=True).start()
    try:
        server.run(sockets=[listener])
    finally:
        worker.stop()
        worker.join(_GRACE)
    if worker.fault is not None:
        raise worker.fault


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise ArgumentError(
            "port", f"cannot listen at {host}:{port} ({error}): take another one"
        ) from error
    return listener


def _tell(host: str, port: int, token: str | None) -> None:
    """Where the page is, and what it means where others can reach it."""
    at = f"[{host}]" if ":" in host else host
    if token is None:
        echo(f"open http://{at}:{port} (Ctrl-C ends it)")
        return
    echo(
        f"open http://{at}:{port}/#token={token}\n"
        "Who reaches this machine and has this address can use the model and this machine's time, "
        "and what is sent is not encrypted: give the address to nobody else, and take a tunnel "
        "(ssh -L) through networks that are not yours."
    )


def _tell_ready(worker: Worker, began: float) -> None:
    while worker.state not in ("ready", "failed"):
        time.sleep(0.1)
    if worker.state == "ready":
        echo(f"the model is ready after {time.monotonic() - began:.0f} s")

"""Processes that take turns: a library's threads do not sit in another's way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[str(__package__).count(".") + 1]  # what it is imported from


class WorkerError(RuntimeError):
    """What a worker was asked for failed there; the message is that of its error."""


class Worker:
    """A process that does what it is told to, and sleeps between.

    Attributes:
        processor_seconds: what it has taken so far, as of its last answer.
    """

    def __init__(self, command: Sequence[str]):
        """Starts it; `command` ends in `serve`."""
        path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
        self.processor_seconds = 0.0
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )

    def __call__(self, action: str, *arguments: Any) -> Any:
        """What the action answers, when it is done.

        Raises:
            WorkerError: it failed, or the process has ended.
        """
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(json.dumps([action, *arguments]) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise WorkerError(f"the process for {action!r} has ended") from error
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(
                f"the process for {action!r} has ended, status {self._process.wait()}"
            )
        said = json.loads(line)
        self.processor_seconds = said["processor_seconds"]
        if "error" in said:
            raise WorkerError(said["error"])
        return said["answer"]

    def close(self) -> None:
        """Ends it."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe
            with suppress(BrokenPipeError):  # who has ended has not read all
                pipe.close()
        self._process.wait()


def serve(actions: Mapping[str, Callable[..., Any]]) -> None:
    """Does what the `Worker` at the other end asks for, until it asks no more.

    Args:
        actions: by name; their answers must be such that JSON has them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the other end
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        action, *arguments = json.loads(line)
        try:
            said = {"answer": actions[action](*arguments)}
        except Exception as error:
            text = str(error).strip().splitlines() or [""]
            said = {"error": f"{type(error).__name__}: {text[0]}"}
        print(
            json.dumps({**said, "processor_seconds": time.process_time()}), file=answers, flush=True
        )

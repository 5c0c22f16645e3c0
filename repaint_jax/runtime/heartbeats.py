"""Heartbeats in a common folder: whether the other processes of a run are alive."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

from repaint_jax.files import read_json, workdir_errors, write_text
from repaint_jax.runtime.console import echo

# A death is told within a minute: after 45 s, so that a slow file system may take 15 s more.
BEAT = 5.0  # seconds
MISSED_BEATS = 9


@dataclass
class _Peer:
    """What is known of another process."""

    name: str
    state: str = "working"  # or "done", or "failed"
    why: str = ""  # it failed
    beat: int = 0  # none heard yet
    missed: int = 0  # beats in a row

    @property
    def gone(self) -> bool:
        return self.state == "failed" or self.missed >= MISSED_BEATS


class Heartbeats:
    """The other processes of a run, as each tells of itself in WORKDIR/processes/INDEX.json.

    Each process counts its beats into its file, and how many of its own beats pass without news of
    another. So no two machines' clocks are compared, and a file system that is away for a while
    kills nobody. A file that an earlier run left does not know this run's tokens: it is no news.

    As a context manager it beats in a thread of its own, and tells on stderr who is gone.
    """

    def __init__(self, index: int, count: int, workdir: Path):
        self._index = index
        self._folder = workdir / "processes"
        self._token = uuid.uuid4().hex
        self._tokens: dict[str, str] = {}  # of the others, who shall know that they are heard
        self._state, self._why, self._beat = "working", "", 0
        self._others = {i: _Peer(f"process {i}") for i in range(count) if i != index}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, daemon=True)

    def __enter__(self) -> Heartbeats:
        with workdir_errors(self._folder.parent):
            self._write()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_beating()
        if error and self._state == "working":
            self._state, self._why = "failed", str(error) or type(error).__name__
        elif not error:
            self._state = "done"
        self._exchange()

    def wait(self) -> list[str]:
        """Tells that this process is done, and waits until no other has anything left to do.

        Returns:
            What became of each that is gone without being done.
        """
        self._stop_beating()  # from here on in this thread
        self._state = "done"
        self._exchange()
        while any(peer.state == "working" and not peer.gone for peer in self._others.values()):
            time.sleep(BEAT)
            self._exchange()
        return [self._fate(peer) for peer in self._others.values() if peer.state != "done"]

    def first_left(self) -> int:
        """The number of the first process that is not gone, as far as this one knows."""
        return min([self._index, *(i for i, peer in self._others.items() if not peer.gone)])

    def _beat_on(self) -> None:
        while not self._ended.wait(BEAT):
            self._exchange()

    def _stop_beating(self) -> None:
        self._ended.set()
        self._thread.join()

    def _exchange(self) -> None:
        """Hears the others, then tells them so: who leaves after this leaves nobody in doubt."""
        for i, peer in self._others.items():
            self._hear(i, peer)
        with suppress(OSError):  # if it lasts, the others will tell
            self._write()

    def _hear(self, i: int, peer: _Peer) -> None:
        """Takes in what process i tells of itself."""
        report = read_json(self._file(i))
        self._tokens[str(i)] = report.get("token", "")
        heard = report.get("tokens", {}).get(str(self._index)) == self._token
        was_gone = peer.gone
        if heard and report["beat"] != peer.beat:
            peer.name = f"process {i} (pid {report['pid']} on {report['host']})"
            peer.state, peer.why, peer.beat = report["state"], report["why"], report["beat"]
            peer.missed = 0
        elif "working" in (peer.state, self._state):  # else it may have left
            peer.missed += 1
        if peer.gone != was_gone:
            news = self._fate(peer) if peer.gone else f"{peer.name} is heard of again"
            with tqdm.external_write_mode(file=sys.stderr):
                echo(f"warning: {news}", sys.stderr)

    def _fate(self, peer: _Peer) -> str:
        if peer.state == "failed":
            return f"{peer.name} ended: {peer.why}"
        if not peer.beat:
            return (
                f"{peer.name} was never heard of in {self._folder}: it died at its start, or "
                "works in another folder"
            )
        return f"{peer.name} died: it has been silent for about {MISSED_BEATS * BEAT:g} s"

    def _write(self) -> None:
        """Tells the others of this process."""
        self._beat += 1
        report = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "state": self._state,
            "why": self._why,
            "beat": self._beat,
            "token": self._token,
            "tokens": self._tokens,
        }
        write_text(self._file(self._index), json.dumps(report))

    def _file(self, i: int) -> Path:
        return self._folder / f"{i}.json"

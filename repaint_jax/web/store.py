"""What people have opened, uploaded and got: in memory, theirs alone, for an hour at most."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from repaint_jax.web.refusals import Refused

Thing = TypeVar("Thing")


@dataclass(eq=False)
class _Entry(Generic[Thing]):
    owner: str
    thing: Thing
    num_bytes: int
    since: float


class Store(Generic[Thing]):
    """Things by random ids of 128 bits, which are their owners' alone.

    Attributes:
        name: what messages call one of them.
    """

    def __init__(
        self,
        name: str,
        *,
        seconds: float = 3600.0,
        most_bytes: int = 2 << 30,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Holds each for `seconds`, and together `most_bytes`, beyond which the oldest go."""
        self.name = name
        self._seconds, self._most, self._clock = seconds, most_bytes, clock
        self._entries: dict[str, _Entry[Thing]] = {}  # the oldest first
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._entries)

    def put(self, owner: str, thing: Thing, num_bytes: int = 0) -> str:
        """Keeps a thing and returns its id."""
        name = secrets.token_hex(16)
        with self._lock:
            self._entries[name] = _Entry(owner, thing, num_bytes, self._clock())
            self._forget()
        return name

    def get(self, owner: str, name: str, *, renew: bool = False) -> Thing:
        """An owner's thing; `renew` begins its hour anew, and is for what is worked on.

        Raises:
            Refused: there is none, or it is another's: both sound alike.
        """
        with self._lock:
            self._forget()
            entry = self._entries.get(name)
            if entry is None or entry.owner != owner:
                raise Refused(
                    404, f"there is no such {self.name}; what is older than an hour is forgotten"
                )
            if renew:
                entry.since = self._clock()
                self._entries[name] = self._entries.pop(name)  # the youngest
            return entry.thing

    def drop(self, name: str) -> None:
        """Lets go of a thing."""
        with self._lock:
            self._entries.pop(name, None)

    def forget(self) -> None:
        """Lets go of what has had its time."""
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        now, total = self._clock(), sum(each.num_bytes for each in self._entries.values())
        for name, entry in list(self._entries.items()):
            crowded = total > self._most and len(self._entries) > 1
            if crowded or now - entry.since > self._seconds:
                del self._entries[name]
                total -= entry.num_bytes

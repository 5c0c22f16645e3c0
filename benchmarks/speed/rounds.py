"""Timing in alternating rounds, so that whatever else the machine does hits all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

Contestant = Callable[[], object]  # does its share of a round and returns when it is done


class Spread(NamedTuple):
    """The least, the median and the greatest of several measurements."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of one or more values."""
        return cls(*(float(value) for value in np.percentile(values, (0, 50, 100))))


def ratio(over: Sequence[float], under: Sequence[float]) -> Spread:
    """The spread of over / under, round by round: a slow moment of the machine cancels."""
    return Spread.of(np.divide(over, under).tolist())


def seconds_of(contestant: Contestant) -> float:
    """How long one round of one contestant takes."""
    started = time.perf_counter()
    contestant()
    return time.perf_counter() - started


def alternate(contestants: Mapping[str, Contestant], rounds: int) -> Iterator[tuple[str, float]]:
    """Runs all contestants `rounds` times; every other round goes backwards.

    Yields:
        A contestant's name and the seconds of its round.
    """
    for number in range(rounds):
        for name in list(contestants)[:: -1 if number % 2 else 1]:
            yield name, seconds_of(contestants[name])

"""The resample schedule: where the trajectory goes, as arrays.

RePaint walks from t = T - 1 down to -1 (clean) and, on the way, jumps back up to harmonise the
hole with what is known (Sec. 4.2). A walk is a list of times: t -> t - 1 is a *reverse step* and
costs a network call, t -> t + 1 a *forward step* that only adds noise. Several forward steps in a
row are in distribution one Gaussian, so the walk is executed as one scan step a network call:
reverse from `t[i]` to `t[i] - 1`, then noise directly up to `t[i + 1]`, where the next call begins
(nothing is added where that is `t[i] - 1` itself).
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

__all__ = ["ResampleSchedule"]

_MOST_CALLS = 10_000_000  # hours at a millisecond a call; more is a mistake that would fill memory


@dataclass(frozen=True, eq=False)
class ResampleSchedule:
    """A walk over timesteps; build it by `create` (the paper's) or `from_times` (any).

    Attributes:
        times: int64[K + 1], the walk of K transitions, from T - 1 to -1.
    """

    times: np.ndarray

    @classmethod
    def create(
        cls,
        num_steps: int,
        jump_length: int = 10,
        num_resamples: int = 10,
        start_resampling: int | None = None,
    ) -> ResampleSchedule:
        """The paper's walk (Sec. 4.2 and Fig. 8).

        At every `jump_length`-th timestep, t = 0, j, 2j, ... below T - j, it jumps up by j and
        comes down again, `num_resamples` - 1 times.

        Args:
            num_steps: T, the timesteps of the (respaced) noise schedule.
            jump_length: j, how many steps a resampling jumps forward. No jumps when j >= T.
            num_resamples: r, how often each stretch is walked down; 1 means no jumps.
            start_resampling: make only jumps that end at or below this t (default: all).

        Raises:
            ValueError: T, j or r is below 1, or the walk would never end.
        """
        for name, value in (
            ("num_steps", num_steps),
            ("jump_length", jump_length),
            ("num_resamples", num_resamples),
        ):
            if operator.index(value) < 1:
                raise ValueError(f"{name} must be at least 1; got {value}")
        highest = num_steps if start_resampling is None else operator.index(start_resampling)
        bases = {
            t for t in range(0, num_steps - jump_length, jump_length) if t + jump_length <= highest
        }
        calls = num_steps + len(bases) * jump_length * (num_resamples - 1)
        if calls > _MOST_CALLS:
            raise ValueError(
                f"the walk would take {calls} network calls; at most {_MOST_CALLS} are possible: "
                "lower num_resamples"
            )
        times: list[int] = []
        for t in range(num_steps - 1, -1, -1):
            times.append(t)
            if t in bases:
                up_and_down = [
                    *range(t + 1, t + jump_length + 1),
                    *range(t + jump_length - 1, t - 1, -1),
                ]
                times += up_and_down * (num_resamples - 1)
        return cls.from_times([*times, -1])

    @classmethod
    def from_times(cls, times: Iterable[int]) -> ResampleSchedule:
        """Any walk: from its highest t to -1, down one step at a time, up at will.

        Raises:
            ValueError: the list is no such walk; the message names the first place where it is not.
        """
        walk = np.array([operator.index(t) for t in times])
        if walk.size < 2 or walk[-1] != -1:
            raise ValueError(
                "times must list at least two timesteps and end in -1, the clean picture; "
                f"got {walk.size} ending in {walk[-1] if walk.size else 'nothing'}"
            )
        if walk[0] != walk.max():
            raise ValueError(
                "times must start at its highest timestep, T - 1, where the picture is pure noise; "
                f"it starts at {walk[0]} and rises to {walk.max()}"
            )
        moves = np.diff(walk)
        wrong = np.flatnonzero((moves < -1) | (moves == 0))
        if walk.min() < -1 or wrong.size:
            at = int(wrong[0]) if wrong.size else int(np.argmin(walk)) - 1
            raise ValueError(
                "times may fall by exactly 1 (a network call), never below -1, or rise (adding "
                f"noise); times[{at}:{at + 2}] is {walk[at : at + 2].tolist()}"
            )
        walk.setflags(write=False)
        return cls(walk)

    @property
    def num_steps(self) -> int:
        """T, the timesteps of the noise schedule that this walk belongs to."""
        return int(self.times[0]) + 1

    @property
    def t(self) -> np.ndarray:
        """int64[N], the time at which each of the N network calls is made."""
        return self.times[:-1][np.diff(self.times) == -1]

    @property
    def t_next(self) -> np.ndarray:
        """int64[N], the time to which scan step i leads: t[i] - 1, or higher after a jump."""
        return np.append(self.t[1:], -1)

    @property
    def num_model_calls(self) -> int:
        """N, the number of network calls."""
        return self.t.size

    @property
    def num_jumps(self) -> int:
        """How often the walk turns upwards."""
        return int(np.sum(self.t_next >= self.t))

    def film_stops(self, num_frames: int = 120) -> list[int]:
        """About `num_frames` numbers of steps after which to look at a trajectory.

        Spread evenly, but a trajectory with jumps is caught before and after them: an even spacing
        could fall into step with the jumps and show a noise level that only ever goes down.
        """
        total = self.num_model_calls
        if total <= num_frames:
            return list(range(1, total + 1))
        tops = np.flatnonzero(self.t_next >= self.t) + 1
        stops = set(np.linspace(1, total, num_frames // 3 + 1).round().astype(int))
        if tops.size:
            some = tops[np.linspace(0, tops.size - 1, min(tops.size, num_frames // 3)).astype(int)]
            stops |= set(some) | set(some - 1)
        return sorted(int(stop) for stop in stops if stop >= 1)

"""MMPS while there is much noise, implicit known pixels after: two methods on one walk.

The gradient is paid for where the layout of the picture is decided. The details are decided where
there is little noise: levels cost a third there, so that there can be many, which makes the hole
sharp. The switch is meant for more than half of the levels in the last quarter of the time:
respace("30,8,8,7").
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from repaint_jax.denoisers import Denoiser
from repaint_jax.methods import mmps
from repaint_jax.methods.base import (
    Observation,
    State,
    check_gradient_share,
    early_steps,
    method,
    static,
)
from repaint_jax.methods.implicit import Implicit
from repaint_jax.methods.mmps import MMPS
from repaint_jax.resampling import ResampleSchedule
from repaint_jax.schedules import NoiseSchedule

__all__ = ["Hybrid"]


class Step(NamedTuple):
    """The numbers of one step, or of N steps as arrays [N]."""

    step: mmps.Step
    early: np.ndarray  # bool, whether it is MMPS's


@method
class Hybrid:
    """MMPS on the noisier levels, then Implicit.

    Attributes:
        clip_denoised: clip the predicted clean picture to [-1, 1].
        churn: of MMPS's steps; fresh noise is a share (1 - a')^churn of each level's.
        late_churn: of the others.
        gradient_share: which share of the levels, from the noisiest, is MMPS's.
        calls: network calls of each other level, 1 or 2.
    """

    clip_denoised: bool = static(default=True)
    churn: float = 0.5
    late_churn: float = 2.0
    gradient_share: float = 0.45
    calls: int = static(default=1)

    def __post_init__(self) -> None:
        check_gradient_share(self)
        self.parts()

    def parts(self) -> tuple[MMPS, Implicit]:
        """The two methods."""
        clip = self.clip_denoised
        return MMPS(clip, self.churn), Implicit(clip, self.late_churn, calls=self.calls)

    def tabulate(self, noise: NoiseSchedule, resampling: ResampleSchedule) -> Step:
        """The numbers of each step."""
        return Step(MMPS().tabulate(noise, resampling), early_steps(self, resampling))

    def init(self, key: jax.Array, observation: Observation, at: Step) -> State:
        """Pure noise."""
        return State.noise(key, observation, at.step.level)

    def step(
        self, model: Denoiser, state: State, observation: Observation, at: Step, key: jax.Array
    ) -> State:
        """A step of one or of the other."""
        early, late = self.parts()
        return jax.lax.cond(
            at.early,
            lambda: early.step(model, state, observation, at.step, key),
            lambda: late.step(model, state, observation, at.step.level, key),
        )

    def cost(self, resampling: ResampleSchedule) -> np.ndarray:
        """What each has."""
        costs = (part.cost(resampling) for part in self.parts())
        return np.where(early_steps(self, resampling), *costs)

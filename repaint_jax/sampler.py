"""A sampler: the noise levels to visit, the walk over them, and the method that makes each step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from repaint_jax.methods import Method, RePaint
from repaint_jax.resampling import ResampleSchedule
from repaint_jax.schedules import NoiseSchedule
from repaint_jax.trajectory import check_walk

__all__ = ["Sampler"]


@dataclass(frozen=True, eq=False)
class Sampler:
    """What `inpaint` takes besides a model and a picture.

    Attributes:
        noise: the model's noise schedule, respaced to the steps to visit.
        resampling: the walk over those steps.
        method: how each step is made.

    Raises:
        ValueError: the walk is not one over these noise levels.
    """

    noise: NoiseSchedule
    resampling: ResampleSchedule
    method: Method = RePaint()

    def __post_init__(self) -> None:
        check_walk(self.noise, self.resampling)

    @property
    def arguments(self) -> dict[str, Any]:
        """As `inpaint` and `trajectory` take it, by name."""
        return {"noise": self.noise, "resampling": self.resampling, "method": self.method}

    @property
    def num_steps(self) -> int:
        """Steps of the walk."""
        return self.resampling.num_model_calls

    @cached_property
    def calls(self) -> np.ndarray:
        """float64[N + 1], call equivalents of the first 0, 1, ... N steps.

        A network call counts 1, one with a vector-Jacobian product 3, and a further product with
        the Jacobian 2.
        """
        return np.append(0.0, np.cumsum(self.method.cost(self.resampling)))

    @property
    def total_calls(self) -> float:
        """Call equivalents of the whole walk."""
        return float(self.calls[-1])

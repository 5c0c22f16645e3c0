"""What a page may choose: methods and qualities, what they cost, and how long that takes here."""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import dataclass
from typing import Any

from repaint_jax.methods import METHODS
from repaint_jax.pipeline import Pipeline
from repaint_jax.sampler import Sampler
from repaint_jax.schedules import NoiseSchedule

NUM_SAMPLES = (1, 2, 4, 8)
_NAMES = ("draft", "good", "fine")
_CALLS = (30, 100, 300)  # call equivalents, which most methods need
# T, j, r of those that need more, levels by sections, or a walk that goes up again; as
# docs/methods.md tells.
_WALKS: dict[str, tuple[tuple[int | str, int, int], ...]] = {
    "hybrid": (("9,2,2,2", 10, 1), ("30,8,8,7", 10, 1), ("90,24,24,21", 10, 1)),
    "repaint": ((50, 10, 1), (100, 10, 3), (250, 10, 10)),
    "dps": ((250, 10, 1), (500, 10, 1), (1000, 10, 1)),
    "mcgdiff": ((20, 10, 1), (50, 10, 1), (100, 10, 1)),
}


@dataclass(frozen=True, eq=False)
class Choice:
    """A method, and its qualities by name."""

    label: str
    about: str
    qualities: dict[str, Sampler]


@dataclass(frozen=True, eq=False)
class Choices:
    """All there is to choose of a pipeline.

    Attributes:
        methods: by name, the default one first.
        default: name of that method, and of its quality.
    """

    methods: dict[str, Choice]
    default: tuple[str, str]

    @classmethod
    def of(cls, pipeline: Pipeline, configured: Sampler | None = None) -> Choices:
        """Every method of `METHODS` in three qualities, and the sampler that is configured."""
        methods = {name: _choice(name, pipeline) for name in METHODS}
        if configured is None:
            return cls(methods, ("repaint", "good"))
        kinds = {kind: name for name, kind in METHODS.items()}
        method: Any = configured.method
        name = kinds.get(type(method), type(method).__name__)
        plain = name in METHODS and method == _constructed(name, pipeline)
        if not plain:  # fields of its own, or a class of one's own
            name = f"{name} as configured"
            own = Choice(name, _about(type(method)), {"configured": configured})
            return cls({name: own, **methods}, (name, "configured"))
        choice, quality = _with(methods.pop(name), configured)
        return cls({name: choice, **methods}, (name, quality))

    def told(self, clock: Clock) -> dict[str, Any]:
        """What the page is told of each method: call equivalents, and the seconds of one."""
        return {
            name: {
                "label": choice.label,
                "about": choice.about,
                "qualities": {each: of.total_calls for each, of in choice.qualities.items()},
                "seconds": {n: clock.seconds(name, n) for n in NUM_SAMPLES},
            }
            for name, choice in self.methods.items()
        }


class Clock:
    """Seconds that a call equivalent has been seen to take on this machine, by method and batch."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, int], float] = {}

    def note(self, method: str, num_samples: int, seconds: float) -> None:
        """Remembers what was measured last."""
        self._seconds[method, num_samples] = seconds

    def seconds(self, method: str, num_samples: int) -> float | None:
        """Of a call equivalent; by proportion where nothing was measured; None before anything."""
        if not self._seconds:
            return None
        if (method, num_samples) in self._seconds:
            return self._seconds[method, num_samples]
        # Of the measured ones the same method before others, and the nearest number.
        nearest = min(self._seconds, key=lambda at: (at[0] != method, abs(at[1] - num_samples)))
        return self._seconds[nearest] * num_samples / nearest[1]


def _choice(name: str, pipeline: Pipeline) -> Choice:
    method = _constructed(name, pipeline)
    one_step = pipeline.sampler(method, num_steps=2, num_resamples=1).total_calls / 2
    walks = _WALKS.get(name) or tuple((max(2, round(c / one_step)), 10, 1) for c in _CALLS)
    qualities = {}
    for quality, (levels, jump, resamples) in zip(_NAMES, walks, strict=True):
        steps = _fitting(levels, pipeline.noise)
        qualities[quality] = pipeline.sampler(
            method, num_steps=steps, jump_length=jump, num_resamples=resamples
        )
    return Choice(METHODS[name].__name__, _about(METHODS[name]), qualities)


def _fitting(levels: int | str, noise: NoiseSchedule) -> int | str:
    """The levels, or as many as a short schedule has, evenly."""
    sections = [int(section) for section in str(levels).split(",")]
    if max(sections) * len(sections) <= noise.num_steps:
        return levels
    return min(sum(sections), noise.num_steps)


def _constructed(name: str, pipeline: Pipeline) -> Any:
    """A method with the defaults of the pipeline, where it has such fields."""
    fields = {field.name for field in dataclasses.fields(METHODS[name])}
    defaults = {"clip_denoised": pipeline.clip_denoised, "variance": pipeline.variance}
    return METHODS[name](**{key: value for key, value in defaults.items() if key in fields})


def _with(choice: Choice, configured: Sampler) -> tuple[Choice, str]:
    """A choice with one more quality, unless it is one of the three; and that quality's name."""
    for quality, sampler in choice.qualities.items():
        same = sampler.resampling.times.tolist() == configured.resampling.times.tolist()
        if same and sampler.noise.timesteps.tolist() == configured.noise.timesteps.tolist():
            return choice, quality
    qualities = {**choice.qualities, "configured": configured}
    in_order = sorted(qualities.items(), key=lambda item: item[1].total_calls)
    return dataclasses.replace(choice, qualities=dict(in_order)), "configured"


def _about(kind: type) -> str:
    """The first sentence of a class."""
    return (inspect.getdoc(kind) or "").split("\n")[0]

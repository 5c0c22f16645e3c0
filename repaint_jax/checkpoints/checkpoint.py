"""What every format is read into: a network, and what its file tells of the training."""

from dataclasses import dataclass
from typing import Any, Literal

from repaint_jax.schedules import NoiseSchedule

Prediction = Literal["noise", "x0", "v"]


@dataclass(frozen=True)
class Checkpoint:
    """A trained network. What its file does not tell is None.

    Attributes:
        network: a module of `repaint_jax.models`, whatever it predicts.
        prediction: what its output is.
        noise: the schedule of the training, not respaced.
        image_size: height and width of the training pictures.
        clip_denoised: whether x_0 is clipped to [-1, 1] in sampling.
        variance: "fixed_small" or "fixed_large"; not used where the network brings its own.
        fingerprint: tells the file, or folder, from others.
    """

    network: Any
    prediction: Prediction | None
    noise: NoiseSchedule | None
    image_size: tuple[int, int] | None
    clip_denoised: bool | None
    variance: str | None
    fingerprint: str

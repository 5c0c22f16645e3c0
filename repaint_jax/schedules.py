"""The noise schedule: how much noise the diffusion process holds at each timestep.

The forward process adds variance `beta_t` at step t (Ho et al. 2020, Eq. 2 and 4):

    q(x_t | x_{t-1}) = N(sqrt(1 - beta_t) x_{t-1}, beta_t I)
    q(x_t | x_0)     = N(sqrt(ac_t) x_0, (1 - ac_t) I),    ac_t = prod_{s <= t} (1 - beta_s)

Index t runs from 0 (almost clean) to T - 1 (almost pure noise); t = -1 is the clean picture,
ac_{-1} = 1. A model is trained on all T steps; sampling may visit a subset of them ("respacing"),
and then `timesteps[t]` is what the network must be told at index t.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["NoiseSchedule"]

Array = np.ndarray

MOST_LEFT = 0.01  # of the variance, at the last step; usual schedules end below 0.005
_MOST_STEPS = 1_000_000  # a thousand times the usual; more is a mistake that would fill memory


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """Betas in float64 and the network time of each index; build it by one of the class methods.

    Attributes:
        betas: float64[T], the variance added at step t.
        timesteps: int64[T], what the network is told at index t.
        num_train_steps: how many steps the network was trained with.
    """

    betas: Array
    timesteps: Array
    num_train_steps: int

    @classmethod
    def from_betas(cls, betas: Array | list[float]) -> NoiseSchedule:
        """The schedule with these betas, float[T], each strictly between 0 and 1."""
        betas = np.array(betas, np.float64)
        if betas.ndim != 1 or betas.size == 0:
            raise ValueError(f"betas must be a list of T numbers; got shape {betas.shape}")
        if not np.all((betas > 0) & (betas < 1)):
            first = int(np.flatnonzero(~((betas > 0) & (betas < 1)))[0])
            raise ValueError(
                f"betas must lie strictly between 0 and 1; betas[{first}] is {betas[first]:g}"
            )
        betas.setflags(write=False)
        return cls(betas, np.arange(betas.size), betas.size)

    @classmethod
    def from_alphas_cumprod(cls, alphas_cumprod: Array | list[float]) -> NoiseSchedule:
        """The schedule with these shares of the picture's variance left, float[T], falling."""
        ac = np.array(alphas_cumprod, np.float64)
        if ac.ndim != 1 or not np.all(np.diff(np.append(1.0, ac)) < 0) or not np.all(ac > 0):
            raise ValueError(
                "alphas_cumprod must be a list of T numbers that fall from below 1 to above 0"
            )
        return cls.from_betas(1 - ac / np.append(1.0, ac[:-1]))

    @classmethod
    def from_sigmas(cls, sigmas: Array | list[float]) -> NoiseSchedule:
        """The schedule with these ratios of noise to signal, float[T], rising.

        `sigma_t = sqrt(1/ac_t - 1)`: the noise levels of EDM (Karras et al. 2022), whose pictures
        are x_0 + sigma eps. A flow's time r is at `sigma = r / (1 - r)`. Index t of this list is
        what a model is told; `noise_from_denoiser` and `noise_from_velocity` turn it back.
        """
        sigmas = np.array(sigmas, np.float64)
        rises = sigmas.ndim == 1 and sigmas.size and np.all(np.diff(sigmas, prepend=0.0) > 0)
        if not rises or not np.isfinite(sigmas[-1]):
            raise ValueError(
                "sigmas must be a list of T numbers that rise from above 0, all finite (where a "
                "flow ends at pure noise, end a little before it, at 1000 or so)"
            )
        return cls.from_alphas_cumprod(1 / (1 + sigmas**2))

    @classmethod
    def karras(
        cls, num_steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
    ) -> NoiseSchedule:
        """Levels of EDM, whose rho-th roots are evenly spaced (Karras et al. 2022, Eq. 5)."""
        if not 0 < sigma_min < sigma_max or rho <= 0:
            raise ValueError(
                f"0 < sigma_min < sigma_max and rho > 0 are needed; got {sigma_min}, {sigma_max} "
                f"and {rho}"
            )
        roots = np.linspace(sigma_min ** (1 / rho), sigma_max ** (1 / rho), _positive(num_steps))
        return cls.from_sigmas(roots**rho)

    @classmethod
    def linear(
        cls, num_steps: int, beta_start: float | None = None, beta_end: float | None = None
    ) -> NoiseSchedule:
        """Evenly spaced betas (Ho et al. 2020, Sec. 4): 1e-4 to 0.02 at 1000 steps.

        With another number of steps the default ends scale by 1000 / num_steps, as in
        guided-diffusion, so that the last step is as noisy.
        """
        scale = 1000 / _positive(num_steps)
        start = 1e-4 * scale if beta_start is None else beta_start
        end = 0.02 * scale if beta_end is None else beta_end
        return cls.from_betas(np.linspace(start, end, num_steps))

    @classmethod
    def scaled_linear(
        cls, num_steps: int, beta_start: float = 0.00085, beta_end: float = 0.012
    ) -> NoiseSchedule:
        """Betas whose square roots are evenly spaced (Rombach et al. 2022, latent diffusion)."""
        return cls.from_betas(
            np.linspace(beta_start**0.5, beta_end**0.5, _positive(num_steps)) ** 2
        )

    @classmethod
    def sigmoid(
        cls, num_steps: int, beta_start: float = 1e-4, beta_end: float = 0.02
    ) -> NoiseSchedule:
        """Betas along a logistic curve over [-6, 6] (Xu et al. 2022, GeoDiff)."""
        curve = 1 / (1 + np.exp(-np.linspace(-6, 6, _positive(num_steps))))
        return cls.from_betas(beta_start + (beta_end - beta_start) * curve)

    @classmethod
    def sigmoid_cumprod(
        cls, num_steps: int, start: float = -3, end: float = 3, max_beta: float = 0.999
    ) -> NoiseSchedule:
        """alphas_cumprod along a logistic curve over [start, end] (Jabri et al. 2023, Fig. 8)."""
        u = np.linspace(start, end, _positive(num_steps) + 1)
        curve = 1 / (1 + np.exp(-u))
        ac = (curve[-1] - curve) / (curve[-1] - curve[0])
        return cls.from_betas(np.minimum(1 - ac[1:] / ac[:-1], max_beta))

    @classmethod
    def cosine(cls, num_steps: int, max_beta: float = 0.999) -> NoiseSchedule:
        """`ac(u) = cos^2(pi/2 (u + .008) / 1.008)` (Nichol & Dhariwal 2021, Eq. 17)."""

        def alpha_bar(u: Array) -> Array:
            return np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2

        u = np.arange(_positive(num_steps) + 1) / num_steps
        return cls.from_betas(np.minimum(1 - alpha_bar(u[1:]) / alpha_bar(u[:-1]), max_beta))

    def zero_terminal_snr(self) -> NoiseSchedule:
        """The schedule rescaled so that its last step has no signal (Lin et al. 2024, Alg. 1).

        sqrt(ac_t) is shifted and scaled so that sqrt(ac_0) stays and sqrt(ac_{T-1}) is 2^-12 in the
        place of 0, as in diffusers: a signal that small is lost in the noise, but x_0 can still be
        told from x_t and its noise in float32. Only for models of x_0 or v, which say something
        at that step.
        """
        signal = np.sqrt(self.alphas_cumprod)
        if signal.size < 2:
            raise ValueError("a schedule of one step cannot be rescaled: its ends are the same")
        signal = (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])
        signal[-1] = 2**-12
        return NoiseSchedule.from_alphas_cumprod(signal**2)

    @property
    def num_steps(self) -> int:
        """T, the number of timesteps that sampling visits."""
        return self.betas.size

    @property
    def alphas(self) -> Array:
        """float64[T], 1 - beta_t."""
        return 1 - self.betas

    @property
    def alphas_cumprod(self) -> Array:
        """float64[T], ac_t: the share of the picture's variance left at index t."""
        return np.cumprod(self.alphas)

    @property
    def log_snr(self) -> Array:
        """float64[T], log(a / s) with a^2 = ac_t, s^2 = 1 - ac_t: half of the ratio's logarithm."""
        return np.log(self.alphas_cumprod / (1 - self.alphas_cumprod)) / 2

    def alpha_cumprod_at(self, t: Array | int) -> Array:
        """ac_t for indices -1 <= t < T, where ac_{-1} = 1 is the clean picture."""
        return np.append(1.0, self.alphas_cumprod)[np.asarray(t) + 1]

    def respace(self, num_steps: int | str | Sequence[int]) -> NoiseSchedule:
        """The schedule that visits only some timesteps, its betas re-derived from alphas_cumprod.

        Args:
            num_steps: how many, spread evenly (an int or "250"); or a count for each of several
                equal sections, noisiest last ("10,20,30"); or "ddim25" for DDIM's fixed stride; or
                "logsnr20" for levels spread evenly in log(sqrt(ac_t) / sqrt(1 - ac_t)); or the
                indices themselves, rising and up to T - 1.

        Raises:
            ValueError: more steps are asked for than there are, or the text is none of these.
        """
        keep = self._kept(num_steps)
        alphas_cumprod = np.append(1.0, self.alphas_cumprod[keep])
        betas = 1 - alphas_cumprod[1:] / alphas_cumprod[:-1]
        betas.setflags(write=False)
        return NoiseSchedule(betas, self.timesteps[keep], self.num_train_steps)

    def _kept(self, spec: int | str | Sequence[int]) -> Array:
        """The indices that `spec` keeps, rising."""
        if not isinstance(spec, str | int | np.integer):
            return _given(self.num_steps, spec)
        if str(spec).strip().startswith("logsnr"):
            return _evenly_in_log_snr(self.log_snr, str(spec).strip())
        return _spaced(self.num_steps, spec)


def check_end(noise: NoiseSchedule) -> None:
    """Warns of a schedule whose last level is far from the pure noise that sampling starts from.

    As when betas made for 1000 steps are cut off after 100: alphas_cumprod then ends at 0.36.
    """
    left = float(noise.alphas_cumprod[-1])
    if left > MOST_LEFT:
        warnings.warn(
            f"the noise schedule ends at alphas_cumprod {left:.2g}: the network saw no noisier "
            f"pictures than with {left:.0%} of their variance left, but a hole starts from pure "
            "noise, so that pictures may come out wrong: check that the schedule is that of the "
            f"training (with {noise.num_steps} steps the usual beta_end is "
            f"{min(20 / noise.num_steps, 0.999):.3g})",
            stacklevel=2,
        )


SCHEDULES: dict[str, Callable[..., NoiseSchedule]] = {
    "linear": NoiseSchedule.linear,
    "scaled_linear": NoiseSchedule.scaled_linear,
    "sigmoid": NoiseSchedule.sigmoid,
    "sigmoid_cumprod": NoiseSchedule.sigmoid_cumprod,
    "cosine": NoiseSchedule.cosine,
}


def described_schedule(
    kind: str,
    num_train_steps: int,
    *,
    betas: list[float] | None = None,
    zero_terminal_snr: bool = False,
    **ends: float,
) -> NoiseSchedule:
    """The schedule of a training as a model's file describes it.

    Args:
        kind: one of SCHEDULES, unless `betas` are given.
        num_train_steps: how many steps the network was trained with.
        betas: all betas, for a schedule of no other description.
        zero_terminal_snr: whether the betas are rescaled so.
        **ends: `beta_start` and `beta_end`, where they are not the default.
    """
    noise = (
        SCHEDULES[kind](num_train_steps, **ends)
        if betas is None
        else NoiseSchedule.from_betas(betas)
    )
    return noise.zero_terminal_snr() if zero_terminal_snr else noise


def _positive(num_steps: int) -> int:
    if num_steps < 1:
        raise ValueError(f"a schedule needs at least 1 step; got {num_steps}")
    if num_steps > _MOST_STEPS:
        raise ValueError(f"a schedule can have {_MOST_STEPS} steps at most; got {num_steps}")
    return num_steps


def _spaced(total: int, spec: int | str) -> Array:
    """The sorted indices that `spec` keeps out of range(total), chosen as guided-diffusion does."""
    text = str(spec).strip()
    try:
        if text.startswith("ddim"):
            return _ddim_spaced(total, int(text.removeprefix("ddim")))
        counts = [int(part) for part in text.split(",")]
    except ValueError as error:
        if str(error).startswith("invalid literal"):
            raise ValueError(
                f'steps must be given as 250, "10,20,30", "ddim25" or "logsnr20"; got {spec!r}'
            ) from None
        raise
    # Sections of (nearly) equal length, the earlier ones taking the remainder.
    lengths = [total // len(counts) + (i < total % len(counts)) for i in range(len(counts))]
    starts = np.cumsum([0, *lengths[:-1]])
    return np.concatenate(
        [start + _evenly(n, k) for start, n, k in zip(starts, lengths, counts, strict=True)]
    )


def _evenly(length: int, count: int) -> Array:
    """`count` indices from 0 to length - 1, both ends included, each rounded half to even."""
    if not 1 <= count <= length:
        raise ValueError(
            f"cannot visit {count} of {length} timesteps: ask for 1 to {length} "
            "(the schedule's own steps are the most there are; sections share them evenly)"
        )
    stride = 1.0 if count == 1 else (length - 1) / (count - 1)
    # Summed, not multiplied, since the last digit decides where a position ends in one half.
    return np.round(np.cumsum([0.0] + [stride] * (count - 1))).astype(int)


def _ddim_spaced(total: int, count: int) -> Array:
    """The first integer stride whose walk over range(total) has exactly `count` stops."""
    for stride in range(1, total + 1):
        if len(range(0, total, stride)) == count:
            return np.arange(0, total, stride)
    raise ValueError(f"no integer stride visits exactly {count} of {total} timesteps")


def _given(total: int, times: Sequence[int]) -> Array:
    """Indices that someone chose, checked."""
    keep = np.array([operator.index(t) for t in times])
    if not keep.size or np.any(np.diff(keep) < 1) or keep[0] < 0 or keep[-1] != total - 1:
        raise ValueError(
            f"indices of timesteps must rise from 0 or more to {total - 1}, the noisiest, where "
            f"sampling begins; got {keep.tolist()}"
        )
    return keep


def _evenly_in_log_snr(log_snr: Array, spec: str) -> Array:
    """The indices nearest to levels that are even in log(a / s), both ends included."""
    count, total = spec.removeprefix("logsnr"), log_snr.size
    if not (count.isdecimal() and 2 <= int(count) <= total):
        raise ValueError(f'"logsnr20" takes 2 to {total} levels; got {spec!r}')
    wanted = np.linspace(log_snr[0], log_snr[-1], int(count))
    keep = np.abs(log_snr[:, None] - wanted).argmin(axis=0)
    # Near the clean picture neighbours may be further apart than levels: these take the next ones.
    rank = np.arange(keep.size)
    keep = np.maximum.accumulate(keep - rank) + rank
    return np.minimum(keep, total - keep.size + rank)

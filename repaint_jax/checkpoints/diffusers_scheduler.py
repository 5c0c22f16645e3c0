"""What a scheduler of diffusers tells of the training: its betas, what the network predicts.

DDPM's and DDIM's schedulers also tell how to sample; what belongs to another solver is left out.
"""

from typing import Any

from repaint_jax.schedules import described_schedule

_PREDICTIONS = {"epsilon": "noise", "sample": "x0", "v_prediction": "v"}
_VARIANCES = {
    "fixed_small": "fixed_small",
    "fixed_small_log": "fixed_small",
    "fixed_large": "fixed_large",
    "fixed_large_log": "fixed_large",
    "learned_range": None,  # the network brings it
}


def noise_of(scheduler: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `described_schedule`; ValueError if there is none such."""
    betas = scheduler.get("trained_betas")
    kind = scheduler.get("beta_schedule")
    steps = scheduler.get("num_train_timesteps", 1000)
    ends = {
        "beta_start": scheduler.get("beta_start", 1e-4),
        "beta_end": scheduler.get("beta_end", 0.02),
    }
    if betas is not None:
        noise = {"kind": "trained_betas", "num_train_steps": len(betas), "betas": betas}
    elif kind == "squaredcos_cap_v2":
        noise = {"kind": "cosine", "num_train_steps": steps}
    elif kind in ("linear", "scaled_linear", "sigmoid"):
        noise = {"kind": kind, "num_train_steps": steps, **ends}
    else:
        raise ValueError(
            "beta_schedule must be one of linear, scaled_linear, squaredcos_cap_v2 and sigmoid; "
            f"got {kind!r}: a model of other noise levels, as EDM's or of a flow, can be used in "
            "Python, by noise_from_denoiser or noise_from_velocity"
        )
    if scheduler.get("rescale_betas_zero_snr"):
        if prediction_of(scheduler) == "noise":
            raise ValueError(
                "rescale_betas_zero_snr is not supported with prediction_type epsilon: without any "
                "signal at the last step, its noise does not tell the picture"
            )
        noise["zero_terminal_snr"] = True
    described_schedule(**noise)  # raises if the numbers are no schedule
    return noise


def prediction_of(scheduler: dict[str, Any]) -> str:
    """What the network predicts; ValueError if it is none of noise, x0 and v."""
    early = "epsilon" if scheduler.get("predict_epsilon", True) else "sample"
    prediction = scheduler.get("prediction_type", early)
    if prediction not in _PREDICTIONS:
        raise ValueError(
            f"prediction_type must be one of {', '.join(_PREDICTIONS)}; got {prediction!r}"
        )
    return _PREDICTIONS[prediction]


def sampler_of(scheduler: dict[str, Any], learned: bool) -> dict[str, Any]:
    """How to draw; `learned` if the network has channels for a variance.

    Raises:
        ValueError: it does not fit the network, or is not supported.
    """
    clip = scheduler.get("clip_sample", True)
    if not str(scheduler.get("_class_name", "DDPM")).startswith(("DDPM", "DDIM")):
        return {"clip_denoised": bool(clip), **({} if learned else {"variance": "fixed_small"})}
    if scheduler.get("thresholding"):
        raise ValueError("thresholding is not supported; set it to false to clip to [-1, 1]")
    if clip and scheduler.get("clip_sample_range", 1.0) != 1:
        raise ValueError(
            "clip_sample_range must be 1, for pictures in [-1, 1]; got "
            f"{scheduler['clip_sample_range']}: set clip_sample to false to clip nothing"
        )
    kind = scheduler.get("variance_type", "learned_range" if learned else "fixed_small")
    if kind not in _VARIANCES:
        raise ValueError(f"variance_type must be one of {', '.join(_VARIANCES)}; got {kind!r}")
    if learned != (kind == "learned_range"):
        raise ValueError(
            f"variance_type {kind!r} does not fit the network, whose out_channels are "
            f"{'twice its' if learned else 'not twice its'} in_channels"
        )
    variance = {} if learned else {"variance": _VARIANCES[kind]}
    return {"clip_denoised": bool(clip), **variance}

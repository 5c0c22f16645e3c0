"""From a configuration for sampling to a pipeline and a sampler."""

from __future__ import annotations

import re

from ml_collections import ConfigDict

from repaint_jax.config import argument_errors
from repaint_jax.errors import ConfigError
from repaint_jax.files import expanded
from repaint_jax.inpainting.naming import named_method
from repaint_jax.loading import load_pipeline
from repaint_jax.methods import METHODS
from repaint_jax.pipeline import Pipeline
from repaint_jax.sampler import Sampler

_METHOD_AND_WALK = re.compile(
    r"(?P<method>.+?)(:(?P<T>(ddim|logsnr)?\d[\d,]*)(/(?P<j>\d+)/(?P<r>\d+))?)?"
)


def build_pipeline(config: ConfigDict) -> Pipeline:
    """The model of a configuration, its class settled."""
    model = config.model
    if not model.path:
        raise ConfigError("config.model.path: no checkpoint is given; set --config.model.path=FILE")
    for field in ("path", "classifier_path"):
        _check_source(model, field)
    with argument_errors():
        return load_pipeline(
            model.path,
            dtype=model.dtype,
            image_size=model.image_size,
            noise_kind=config.noise.kind,
            num_train_steps=config.noise.num_train_steps,
            prediction=model.prediction,
            unit_range=model.unit_range,
            class_label=model.class_label,
            classifier=model.classifier_path,
            guidance_scale=model.guidance_scale,
            num_heads=model.num_heads,
            num_head_channels=model.num_head_channels,
            use_new_attention_order=model.use_new_attention_order,
            sinusoidal_pos_emb_theta=model.sinusoidal_pos_emb_theta,
        )


def _check_source(model: ConfigDict, field: str) -> None:
    """Tells where to get a file that is not there, if the configuration knows."""
    name, source = model[field], model[field.replace("path", "source")]
    if name and source and not expanded(name).exists():
        raise ConfigError(
            f"config.model.{field}: there is no file {expanded(name)}; put {source} there, or say "
            f"where it is with --config.model.{field}=FILE"
        )


def settle_walk(config: ConfigDict, flag: str = "config.method") -> ConfigDict:
    """The configuration with the walk of a method such as repaint:250/10/10 in the walk's fields.

    METHOD:T/j/r stands for `noise.num_steps`, `resampling.jump_length` and
    `resampling.num_resamples`; METHOD:T walks straight down; METHOD leaves the fields as they are.

    Args:
        config: for sampling.
        flag: where the method stands, for messages.

    Returns:
        The configuration, or a copy.

    Raises:
        ConfigError: there is a walk, but not such a one.
    """
    parts = _METHOD_AND_WALK.fullmatch(config.method)
    name, colon, _ = parts["method"].partition(":") if parts else ("", ":", "")
    of_the_package = colon and name.partition("(")[0].strip() in METHODS  # else FILE.py:CLASS
    if parts is None or of_the_package or re.search(r":\d[\w,/-]*$", parts["method"]):
        raise ConfigError(
            f"{flag}: METHOD:T/j/r, such as repaint:250/10/10 (steps, jump length, resamplings), "
            f"or METHOD:T; got {config.method!r}"
        )
    if not parts["T"]:
        return config
    settled = config.copy_and_resolve_references()
    settled.method = parts["method"]
    settled.noise.num_steps = parts["T"]
    settled.resampling.num_resamples = int(parts["r"] or 1)
    settled.resampling.jump_length = int(parts["j"] or config.resampling.jump_length)
    return settled


def build_sampler(config: ConfigDict, pipeline: Pipeline) -> Sampler:
    """The method and the walk of a configuration."""
    config = settle_walk(config)
    with argument_errors():
        method = named_method(
            config.method, clip_denoised=pipeline.clip_denoised, variance=pipeline.variance
        )
        return pipeline.sampler(method, num_steps=config.noise.num_steps, **config.resampling)

"""The page of a configuration."""

from __future__ import annotations

from ml_collections import ConfigDict

from repaint_jax.config import check_fields
from repaint_jax.errors import ArgumentError, ConfigError
from repaint_jax.inpainting.building import build_pipeline, build_sampler
from repaint_jax.pipeline import Pipeline
from repaint_jax.sampler import Sampler
from repaint_jax.web.choices import NUM_SAMPLES
from repaint_jax.web.server import serve


def serve_config(config: ConfigDict, *, host: str, port: int) -> None:
    """Serves a page with the model of a configuration, until it is interrupted.

    Raises:
        ConfigError: the configuration cannot be run, or the server not be started.
    """
    check_fields(config)

    def load() -> tuple[Pipeline, Sampler]:
        pipeline = build_pipeline(config)
        return pipeline, build_sampler(config, pipeline)

    num_samples = max(n for n in NUM_SAMPLES if n == 1 or n <= min(config.num_samples, 4))
    try:
        serve(load, host=host, port=port, num_samples=num_samples)
    except ArgumentError as error:
        raise ConfigError(f"--{error.argument}: {error.fault}") from error

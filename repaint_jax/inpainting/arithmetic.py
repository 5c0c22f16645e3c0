"""In which dtype a run computes: what "auto" is here, or was when the run began."""

from __future__ import annotations

from pathlib import Path

from ml_collections import ConfigDict

from repaint_jax.files import read_json
from repaint_jax.models.kernels.onednn import best_dtype
from repaint_jax.runtime.console import echo


def settle_dtype(config: ConfigDict, begun: str | None) -> ConfigDict:
    """The configuration with a dtype in the place of "auto", which is told in a line.

    Args:
        config: of the run.
        begun: the dtype with which the run began that is to go on, on whatever machine.

    Returns:
        The configuration, or a copy: a run's record names what it computed in.
    """
    if config.model.dtype != "auto":
        return config
    dtype, why = (begun, "as this run began") if begun else best_dtype()
    echo(f"computing in {dtype}: {why}")
    settled = config.copy_and_resolve_references()
    settled.model.dtype = dtype
    return settled


def begun_with(record: Path) -> str | None:
    """The dtype of an unfinished inpainting run, by its run.json; None where nothing tells."""
    try:
        return read_json(record)["config"]["model"]["dtype"]
    except (KeyError, TypeError):
        return None

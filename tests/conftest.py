"""Shared by every test: where the reference outputs lie, and strict arithmetic."""

from pathlib import Path

import jax
import pytest

# A silent [B, 1] + [B] has cost more people more days than any other line.
jax.config.update("jax_numpy_rank_promotion", "raise")

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder with outputs of the reference implementations."""
    return GOLDEN

"""Shared by every test: references, strict arithmetic, how long to search, what is compiled."""

import gc
import os
import tempfile
from pathlib import Path

# Most of the suite's time is tracing and compiling programs that run for seconds at most: LLVM's
# later passes take more than they give.
os.environ["XLA_FLAGS"] = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    + os.environ.get("XLA_FLAGS", "")
)

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from hypothesis import HealthCheck, settings

from repaint_jax.checkpoints import save
from repaint_jax.models import UNet

# A silent [B, 1] + [B] has cost more people more days than any other line.
jax.config.update("jax_numpy_rank_promotion", "raise")

# The same examples on every machine; for a long search of new ones, --hypothesis-profile=long.
settings.register_profile(
    "short",
    max_examples=30,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile(
    "long", settings.get_profile("short"), max_examples=3000, derandomize=False
)
settings.load_profile("short")

GOLDEN = Path(__file__).parent / "golden"


def pytest_configure(config):
    """What the scripts compile is kept for the session, and the user's own cache left alone."""
    gc.set_threshold(50_000, 20, 100)  # tracing makes many objects and little garbage
    if not hasattr(config, "workerinput"):  # pytest-xdist's workers inherit it
        folder = tempfile.TemporaryDirectory()
        config.add_cleanup(folder.cleanup)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder.name
        os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] = str(1 << 30)  # which brings a lock along


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder with outputs of the reference implementations."""
    return GOLDEN


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A network of one level, saved with its noise schedule."""
    model = UNet(
        model_channels=32,
        channel_mult=(1,),
        num_res_blocks=1,
        attention_resolutions=(),
        rngs=nnx.Rngs(0),
    )
    # A fresh network returns zeros; this one leaves a mark.
    model.out_conv.bias[...] = jnp.arange(6) / 10
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    save(path, model, image_size=16, noise={"kind": "linear", "num_train_steps": 1000})
    return path

"""The networks of golden/, whose random weights are drawn from a seed whenever they are asked for.

golden/NAME_keys.json has their names and shapes as guided-diffusion's own networks list them,
golden/NAME.npz what it computes with these weights; golden/make_networks.py made both.
"""

import functools
import json
import math
import tempfile
import zlib
from pathlib import Path

import numpy as np
from torch_zip import write_state_dict

GOLDEN = Path(__file__).parent / "golden"
_FOLDER = tempfile.TemporaryDirectory()


def weights(name: str) -> dict[str, np.ndarray]:
    """float32 arrays, of a size that neither vanishes nor explodes on its way through."""
    shapes = json.loads((GOLDEN / f"{name}_keys.json").read_text())
    random = np.random.RandomState(zlib.crc32(name.encode()))  # NumPy keeps its numbers for good
    return {key: _drawn(random, key, shape).astype(np.float32) for key, shape in shapes.items()}


def _drawn(random: np.random.RandomState, key: str, shape: list[int]) -> np.ndarray:
    numbers = random.standard_normal(shape)
    if key.endswith("bias"):
        return 0.1 * numbers
    if len(shape) == 1:  # scales of a normalisation
        return 1 + 0.2 * numbers
    return numbers / math.sqrt(math.prod(shape[1:]))


@functools.cache
def checkpoint(name: str) -> Path:
    """The network's file, as torch.save writes it."""
    return write_state_dict(Path(_FOLDER.name) / f"{name}.pt", weights(name))

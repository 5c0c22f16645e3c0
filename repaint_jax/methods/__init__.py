"""Ways to sample a picture given its known pixels: one file a method."""

from repaint_jax.methods.base import Level, Method, Observation, State, method, static
from repaint_jax.methods.daps import DAPS
from repaint_jax.methods.ddnm import DDNM
from repaint_jax.methods.ding import DInG
from repaint_jax.methods.dps import DPS
from repaint_jax.methods.hybrid import Hybrid
from repaint_jax.methods.implicit import Implicit
from repaint_jax.methods.lanpaint import LanPaint
from repaint_jax.methods.mcgdiff import MCGDiff
from repaint_jax.methods.mmps import MMPS
from repaint_jax.methods.pigdm import PiGDM
from repaint_jax.methods.quasi_newton import QuasiNewton
from repaint_jax.methods.repaint import RePaint

# What a configuration calls them.
METHODS: dict[str, type] = {
    "repaint": RePaint,
    "mmps": MMPS,
    "quasi_newton": QuasiNewton,
    "hybrid": Hybrid,
    "implicit": Implicit,
    "ding": DInG,
    "ddnm": DDNM,
    "pigdm": PiGDM,
    "dps": DPS,
    "daps": DAPS,
    "lanpaint": LanPaint,
    "mcgdiff": MCGDiff,
}

__all__ = [
    "DAPS",
    "DDNM",
    "DPS",
    "METHODS",
    "MMPS",
    "DInG",
    "Hybrid",
    "Implicit",
    "LanPaint",
    "Level",
    "MCGDiff",
    "Method",
    "Observation",
    "PiGDM",
    "QuasiNewton",
    "RePaint",
    "State",
    "method",
    "static",
]

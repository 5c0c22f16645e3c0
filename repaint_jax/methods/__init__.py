"""Ways to sample a picture given its known pixels: one file a method."""

from repaint_jax.methods.base import Level, Method, Observation, State, method, static
from repaint_jax.methods.ddnm import DDNM
from repaint_jax.methods.repaint import RePaint

# What a configuration calls them.
METHODS: dict[str, type] = {
    "repaint": RePaint,
    "ddnm": DDNM,
}

__all__ = [
    "DDNM",
    "METHODS",
    "Level",
    "Method",
    "Observation",
    "RePaint",
    "State",
    "method",
    "static",
]

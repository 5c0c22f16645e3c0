"""A run of a configuration: pictures and masks in, a folder of results out."""

from repaint_jax.errors import require

require("cli", "ml_collections")

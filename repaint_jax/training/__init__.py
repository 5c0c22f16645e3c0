"""From pictures to a denoiser: data, loss, step, loop, and what is kept and shown of them."""

from repaint_jax.errors import require

require("training", "ml_collections", "optax", "orbax")

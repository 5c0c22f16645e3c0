"""Pictures, masks and what is drawn of them: NumPy and Pillow, no JAX."""

from repaint_jax.errors import require

require("pictures", "PIL", "skimage")

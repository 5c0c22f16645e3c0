"""Many pictures, masks and methods, and tables of how well they did."""

from repaint_jax.errors import require

require("evaluation", "ml_collections", "jinja2")

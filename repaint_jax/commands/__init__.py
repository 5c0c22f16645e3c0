"""The commands: a docstring, which is the beginning of --help, flags, and one call each."""

from repaint_jax.errors import require

require("cli", "absl", "filelock", "matplotlib", "ml_collections", "tqdm")

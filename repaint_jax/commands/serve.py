"""Opens a page in the browser: paint a hole on a photograph, and see it filled.

repaint-jax serve --config=celeba
repaint-jax serve --config=celeba --port=8000

The page is at http://127.0.0.1:7860, for this machine alone. Nothing is written to disk.
"""

from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from repaint_jax.cli import launch
from repaint_jax.inpainting.serving import serve_config

flags.DEFINE_string(
    "host",
    "127.0.0.1",
    "Where to listen. With 0.0.0.0 other machines can reach the page, and use it with the token "
    "that is printed.",
)
flags.DEFINE_integer(
    "port", 7860, "At which port; 0 takes a free one.", lower_bound=0, upper_bound=65535
)


def serve(config: ConfigDict, workdir: Path) -> None:
    """Serves until it is interrupted."""
    del workdir  # nothing is written
    serve_config(config, host=flags.FLAGS.host, port=flags.FLAGS.port)


def main() -> None:
    """Runs the command."""
    launch(serve)

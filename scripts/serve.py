"""Opens a page in the browser to paint a hole on a photograph and see it filled.

python scripts/serve.py --config=configs/celeba.py

The page is http://127.0.0.1:7860. It needs the extra "web": pip install -e ".[web]".
"""

from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from repaint_jax.cli import launch
from repaint_jax.inpainting.serving import serve_config

flags.DEFINE_string(
    "host",
    "127.0.0.1",
    "Where to listen. 0.0.0.0 lets other machines in: who has the token that is then printed, can "
    "use the page.",
)
flags.DEFINE_integer(
    "port", 7860, "Likewise; 0 takes a free one.", lower_bound=0, upper_bound=65535
)
for name in ("host", "port"):
    flags.declare_key_flag(name)


def serve(config: ConfigDict, workdir: Path) -> None:
    """Serves until it is interrupted; nothing is written to a folder."""
    serve_config(config, host=flags.FLAGS.host, port=flags.FLAGS.port)


if __name__ == "__main__":
    launch(serve)

"""Fills the holes of pictures with diffusion models, in JAX and Flax.

repaint-jax COMMAND --help tells the flags of a command; repaint-jax inpaint --config=celeba is one
to begin with. python -m repaint_jax is the same.
"""

import importlib
import importlib.metadata
import platform
import sys

from repaint_jax import __version__
from repaint_jax.errors import MissingExtra

COMMANDS = {
    "inpaint": "fill the holes of pictures, as a configuration says",
    "evaluate": "fill many pictures under several masks by several methods, and write a table",
    "train": "make a diffusion model of your pictures",
    "serve": "paint holes on your pictures in a browser, and watch them fill",
    "benchmark": "time the sampler beside PyTorch's",
    "plot-schedule": "draw the resample schedule of a configuration",
}


def main() -> None:
    """Runs the command that the first argument names."""
    name, *flags = sys.argv[1:] or ["--help"]
    if name in ("--help", "-h", "help"):
        listed = "\n".join(f"  {name:14} {what}" for name, what in COMMANDS.items())
        print(f"{__doc__}\n{listed}\n  --version      of this package and of what it stands on")
        return
    if name == "--version":
        print(version())
        return
    if name not in COMMANDS:
        sys.exit(f"error: there is no command {name!r}; there are {', '.join(COMMANDS)}")
    sys.argv = [f"repaint-jax {name}", *flags]
    try:
        command = importlib.import_module(f"repaint_jax.commands.{name.replace('-', '_')}")
    except MissingExtra as error:
        sys.exit(f"error: {error}")
    command.main()


def version() -> str:
    """In one line, as a report of a fault should have it."""
    below = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "flax"))
    return f"repaint-jax {__version__} ({below}, Python {platform.python_version()})"


if __name__ == "__main__":
    main()

"""Fills the holes of pictures with diffusion models, in JAX and Flax.

repaint-jax COMMAND --help tells the flags of a command; repaint-jax inpaint --config=celeba is one
to begin with. python -m repaint_jax is the same.
"""

import ast
import importlib
import importlib.metadata
import platform
import sys
from pathlib import Path

from repaint_jax import __version__
from repaint_jax.errors import MissingExtra


def main() -> None:
    """Runs the command that the first argument names."""
    name, *flags = sys.argv[1:] or ["--help"]
    known = commands()
    if name in ("--help", "-h", "help"):
        listed = "\n".join(f"  {name:14} {about}" for name, about in known.items())
        print(f"{__doc__}\n{listed}\n  --version      Of this package and of what it stands on.")
        return
    if name == "--version":
        print(version())
        return
    if name not in known:
        sys.exit(f"error: there is no command {name!r}; there are {', '.join(known)}")
    sys.argv = [f"repaint-jax {name}", *flags]
    try:
        command = importlib.import_module(f"repaint_jax.commands.{name.replace('-', '_')}")
    except MissingExtra as error:
        sys.exit(f"error: {error}")
    command.main()


def commands() -> dict[str, str]:
    """The first line of what each says of itself; read, not imported, to need no extra."""
    lines = {}
    for file in sorted(Path(__file__).with_name("commands").glob("[!_]*.py")):
        about = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        lines[file.stem.replace("_", "-")] = about.partition("\n")[0]
    return lines


def version() -> str:
    """In one line, as a report of a fault should have it."""
    below = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "flax"))
    return f"repaint-jax {__version__} ({below}, Python {platform.python_version()})"


if __name__ == "__main__":
    main()

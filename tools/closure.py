"""Lists what is installed in an environment, the largest first: python tools/closure.py.

Sizes are those of the files that came with each package, without compiled bytecode, in MB.
"""

from importlib.metadata import Distribution, distributions
from pathlib import Path


def megabytes(package: Distribution) -> float:
    """How large its files are."""
    files = [file for file in package.files or () if "__pycache__" not in file.parts]
    paths = [Path(str(file.locate())) for file in files]
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6


def main() -> None:
    """Prints a line for each package, and the sum."""
    named = {package.name: package for package in distributions()}
    sizes = {name: megabytes(named[name]) for name in named if name not in ("pip", "setuptools")}
    for name in sorted(sizes, key=sizes.__getitem__, reverse=True):
        print(f"{sizes[name]:7.1f}  {name} {named[name].version}")
    print(f"{sum(sizes.values()):7.1f}  MB in {len(sizes)} packages")


if __name__ == "__main__":
    main()

"""What pyproject.toml cannot say: two folders beside the package belong in it.

`configs/` and `benchmarks/` lie beside `repaint_jax/`, where a clone's user finds them, and are
`repaint_jax/configs/` and `repaint_jax/benchmarks/` where the package is installed.
"""

from setuptools import find_namespace_packages, find_packages, setup

BESIDE = ("configs", "benchmarks")

setup(
    packages=[
        *find_packages(include=["repaint_jax*"]),
        *(f"repaint_jax.{name}" for folder in BESIDE
          for name in find_namespace_packages(include=[folder, f"{folder}.*"])),
    ],
    package_dir={f"repaint_jax.{folder}": folder for folder in BESIDE},
)  # fmt: skip

"""repaint-jax benchmark, in a clone.

python scripts/benchmark.py --help
"""

from repaint_jax.commands.benchmark import main

if __name__ == "__main__":
    main()

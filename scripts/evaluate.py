"""repaint-jax evaluate, in a clone.

python scripts/evaluate.py --help
"""

from repaint_jax.commands.evaluate import main

if __name__ == "__main__":
    main()

"""repaint-jax serve, in a clone.

python scripts/serve.py --help
"""

from repaint_jax.commands.serve import main

if __name__ == "__main__":
    main()

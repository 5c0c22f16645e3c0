"""repaint-jax train, in a clone.

python scripts/train.py --help
"""

from repaint_jax.commands.train import main

if __name__ == "__main__":
    main()

"""repaint-jax inpaint, in a clone.

python scripts/inpaint.py --help
"""

from repaint_jax.commands.inpaint import main

if __name__ == "__main__":
    main()

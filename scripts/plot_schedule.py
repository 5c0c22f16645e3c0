"""repaint-jax plot-schedule, in a clone.

python scripts/plot_schedule.py --help
"""

from repaint_jax.commands.plot_schedule import main

if __name__ == "__main__":
    main()

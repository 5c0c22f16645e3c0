"""Products that a CPU runs faster by a library than by XLA."""

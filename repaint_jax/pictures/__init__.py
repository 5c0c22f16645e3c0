"""Pictures, masks and what is drawn of them: NumPy and Pillow, no JAX."""

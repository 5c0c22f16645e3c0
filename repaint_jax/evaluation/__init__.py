"""Many pictures, masks and methods, and tables of how well they did."""

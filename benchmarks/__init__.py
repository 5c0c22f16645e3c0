"""What is measured of this project, beside others and beside closed forms."""

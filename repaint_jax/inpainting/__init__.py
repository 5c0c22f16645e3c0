"""A run of a configuration: pictures and masks in, a folder of results out."""

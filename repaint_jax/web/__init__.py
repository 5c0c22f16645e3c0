"""A page to paint a hole on and see it filled: one server, one worker, plain JavaScript."""

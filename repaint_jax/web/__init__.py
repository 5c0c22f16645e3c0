"""A page to paint a hole on and see it filled: one server, one worker, plain JavaScript."""

from repaint_jax.errors import require

require("web", "starlette", "uvicorn")

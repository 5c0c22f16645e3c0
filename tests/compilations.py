"""What XLA is asked to compile."""

from contextlib import contextmanager

import jax


@contextmanager
def compilations():
    """Collects the names of the functions that are compiled, or fetched compiled from disk."""
    names = []

    def listen(event, duration_secs, fun_name="", **_):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(fun_name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)

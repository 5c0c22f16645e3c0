"""Finds out which of several processes this one is; `processes.join` runs it in a child process.

JAX's runtime ends every process that stays in it as soon as one dies, and aborts one that cannot
join. So it is left again as soon as it has told the place, and a process that samples never enters.
"""

import json
import sys

import jax


def main() -> None:
    """Prints this process's place, once all have come; takes the arguments of JAX as JSON."""
    asked = json.loads(sys.argv[1])
    try:
        jax.distributed.initialize(**asked)
    except ValueError as error:
        unknown = asked["coordinator_address"] is None
        sys.exit("no cluster was found" if unknown else str(error))
    except (OSError, RuntimeError, TypeError) as error:
        sys.exit(" ".join(str(error).split()))
    place = {
        "index": jax.process_index(),
        "count": jax.process_count(),
        "gpus": jax.config.values["jax_cuda_visible_devices"],  # "all", or those of this process
    }
    jax.distributed.shutdown()  # which waits for all
    print(json.dumps(place))


if __name__ == "__main__":
    main()

"""Several processes that share the pictures of a run, on one machine or many.

Pictures have nothing to say to each other, so each process computes on its own devices and leaves
its results in a folder that all of them see. Its place among the others a process has from JAX
(`join`) or from its user; whether the others live, from files in that folder (`peers.py`).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jax

from repaint_jax.errors import ProcessError
from repaint_jax.runtime.life_signs import Peers

PATIENCE = 300.0  # seconds for all processes to start; JAX's own default

Item = TypeVar("Item")


@dataclass(frozen=True)
class Processes:
    """This process's place among those that share a run.

    Attributes:
        index: its number, from 0.
        count: how many there are.
        peers: the others, if all run at the same time; None if the user starts each by hand, when
            it suits.
    """

    index: int = 0
    count: int = 1
    peers: Peers | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ProcessError(
                f"--process_id: from 0 to {self.count - 1} (--num_processes less 1), not "
                f"{self.index}"
            )

    def share(self, work: Sequence[Item]) -> Sequence[Item]:
        """Every `count`-th item: all shares together are the whole, and none overlap."""
        return work[self.index :: self.count]

    def wait_for_all(self) -> None:
        """Tells that this process's share is done, and returns when all are.

        Processes that are started by hand do not wait.

        Raises:
            ProcessError: one is gone, and no other has anything left to do.
        """
        gone = self.peers.wait() if self.peers else []
        if gone:
            raise ProcessError(
                f"{'; '.join(gone)}. Run the same command again: it goes on with what is missing"
            )

    @property
    def leads(self) -> bool:
        """Whether no process before this one is left, to write what one writes for all."""
        return self.peers is None or self.peers.first_left() == self.index


ALONE = Processes()


def join(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    patience: float = PATIENCE,
) -> tuple[int, int]:
    """Meets the other processes by `jax.distributed`; before JAX's first use.

    Where JAX gives each process on a machine a GPU of its own, this one sees only that.

    Args:
        coordinator_address: HOST:PORT, a free port of process 0's machine. What is None, here and
            below, JAX finds out of SLURM, Open MPI, Kubernetes or Cloud TPU.
        num_processes: how many there are.
        process_id: which this is, from 0.
        patience: seconds for all to come.

    Returns:
        This process's number, and how many there are.

    Raises:
        ProcessError: there is no cluster, or not all came.
    """
    asked = {
        "coordinator_address": coordinator_address,
        "num_processes": num_processes,
        "process_id": process_id,
        "initialization_timeout": round(patience),
    }
    script = Path(__file__).with_name("rendezvous.py")
    try:
        met = subprocess.run(
            [sys.executable, "-P", str(script), json.dumps(asked)],
            env={**os.environ, "JAX_PLATFORMS": "cpu"},  # a child that takes no GPU
            capture_output=True,
            text=True,
            timeout=patience,
        )
    except subprocess.TimeoutExpired:
        raise _not_met(asked, f"some did not come within {patience:g} s") from None
    if met.returncode:
        told = re.findall("absl::Status: (.*)", met.stderr) or met.stderr.splitlines() or ["?"]
        raise _not_met(asked, told[-1])
    place = json.loads(met.stdout.splitlines()[-1])
    for kind in ("cuda", "rocm"):
        jax.config.update(f"jax_{kind}_visible_devices", place["gpus"])
    return place["index"], place["count"]


def _not_met(asked: dict[str, Any], reason: str) -> ProcessError:
    """The reason, and what to look at."""
    if asked["coordinator_address"] is None:
        mend = (
            "start them by srun, by mpirun, as an indexed job of Kubernetes (with pip install "
            "'jax[k8s]') or on Cloud TPU, or give --coordinator_address, --num_processes and "
            "--process_id"
        )
    else:
        mend = (
            f"{asked['coordinator_address']} must be a free port of process 0's machine that all "
            f"{asked['num_processes']} processes reach, and each needs a number of its own"
        )
    return ProcessError(f"the processes did not find each other: {reason.rstrip('.')}; {mend}")


@contextmanager
def alive(index: int, count: int, workdir: Path) -> Iterator[Processes]:
    """Processes that run at the same time and hear of each other in `workdir`.

    Raises:
        OSError: the folder cannot be written.
    """
    if count == 1:
        yield ALONE
        return
    with Peers(index, count, workdir) as peers:
        yield Processes(index, count, peers)

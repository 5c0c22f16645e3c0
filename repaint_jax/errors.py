"""What a user can mend: each message says in one line what is wrong, and the cure.

A message speaks of the Python API, as in "pass invert=True". Where an argument mends the fault, the
error or warning carries it as `mend`, "invert=True": who offers the argument under another name,
such as the command line, can say so beside.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TypeVar

Fault = TypeVar("Fault", bound=BaseException)


class ArgumentError(ValueError):
    """An argument cannot be used as it is.

    Attributes:
        argument: its name, so that a command line or a page can say which of its fields that is.
        fault: what is wrong and how to mend it.
    """

    def __init__(self, argument: str, fault: str):
        super().__init__(f"{argument}: {fault}")
        self.argument, self.fault = argument, fault


class ConfigError(ValueError):
    """A configuration cannot be run; the message names the field, the fault and the mend."""


class ImageError(ValueError):
    """A picture or mask cannot be used."""

    def __init__(self, message: str):
        super().__init__(" ".join(message.split()))


class DataError(ValueError):
    """A collection of pictures cannot be used."""


class ProcessError(RuntimeError):
    """The processes of a run do not find each other, or one is gone."""


class MissingExtra(ModuleNotFoundError):
    """What was imported needs packages that come with an extra of this one."""


def require(extra: str, *modules: str) -> None:
    """Says which extra to install, where one of `modules` is not there.

    Raises:
        MissingExtra: one is not.
    """
    for module in modules:
        if find_spec(module) is None:
            raise MissingExtra(
                f"this needs {module}, which is not installed: pip install 'repaint-jax[{extra}]'",
                name=module,
            )


def mended_by(mend: str, fault: Fault) -> Fault:
    """The error or warning, which from now on tells the argument that mends it."""
    fault.mend = mend  # type: ignore[attr-defined]
    return fault


def mend_of(fault: object) -> str:
    """That argument, such as "invert=True" or "workdir"; nothing if there is none."""
    return getattr(fault, "mend", "")

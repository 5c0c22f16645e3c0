"""From a command line to one function call; every mistake of a user becomes one line."""

from __future__ import annotations

import errno
import gc
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from repaint_jax.checkpoints import CheckpointError
from repaint_jax.config import SAMPLING, Fields, meanings
from repaint_jax.errors import (
    ArgumentError,
    ConfigError,
    DataError,
    ImageError,
    MissingExtra,
    ProcessError,
    mend_of,
)
from repaint_jax.files import beside, expanded
from repaint_jax.runtime.compilation import keep_compiled
from repaint_jax.runtime.console import echo
from repaint_jax.runtime.devices import keep_roundings, one_device_a_core, platform_fault
from repaint_jax.runtime.processes import Processes, alive, join
from repaint_jax.runtime.workdirs import held

# Which flag is the Python argument that an error or a warning names.
FLAGS = {"invert": "--config.invert_mask", "mask": "--config.mask", "workdir": "--workdir"}

WHICH_CONFIG = "which configuration? Give --config=celeba, another of its kind, or a file"

# What a user can mend. Anything else is a bug of ours and keeps its traceback.
USER_ERRORS = (
    ArgumentError, ConfigError, CheckpointError, DataError, ImageError, ProcessError, OSError,
    MemoryError, MissingExtra,
)  # fmt: skip


def launch(
    command: Callable[[ConfigDict, Path], None],
    *,
    without_config: Callable[[Path], None] | None = None,
    flags_of: Mapping[str, str] = FLAGS,
    place: str = "out/{}",
    fields: Fields = SAMPLING,
) -> None:
    """Runs `command(config, workdir)` with the flags --config and --workdir.

    Args:
        command: what to do.
        without_config: what to do when there is --workdir alone, if that makes sense.
        flags_of: which flag is the Python argument that an error or a warning names.
        place: the default of --workdir, of the configuration's name.
        fields: of the configuration, for --help.
    """
    config_flags.DEFINE_config_file(
        "config",
        None,
        "Configuration: the name of one that comes along, such as celeba, or a file. Any field can "
        "be overridden: --config.mask=expand --config.resampling.num_resamples=10. The fields are "
        "listed above.",
    )
    default = place.format("<config name>")
    flags.DEFINE_string("workdir", None, f"Folder for the results; default {default}.")
    of_command = flags.FLAGS.get_flags_for_module(command.__module__)
    _show_in_help("config", "workdir", *(flag.name for flag in of_command))
    about = _about(command.__module__)

    def main(argv: Sequence[str]) -> None:
        del argv
        _prepare()
        config, workdir = flags.FLAGS.config, flags.FLAGS.workdir
        workdir = workdir and expanded(workdir)
        try:
            if config is not None:
                workdir = workdir or place.format(_config_file().stem)
                command(config, Path(workdir))
            elif without_config and workdir:
                without_config(Path(workdir))
            else:
                raise ConfigError(WHICH_CONFIG)
        except USER_ERRORS as error:
            sys.exit(f"error: {_message(error)}{_flag(error, flags_of)}")
        except (AssertionError, RuntimeError):
            if fault := platform_fault():
                sys.exit(f"error: {fault}")
            raise
        except KeyboardInterrupt:
            echo(f"\nstopped; the same command goes on from {workdir}", sys.stderr)
            sys.exit(130)

    warnings.formatwarning = lambda w, *_, **__: f"warning: {_message(w)}{_flag(w, flags_of)}\n"
    app.run(main, flags_parser=partial(_parse, about=about, fields=fields))


def _prepare() -> None:
    """Settings of the process."""
    logging.set_verbosity(logging.WARNING)  # JAX tells which backends it did not find
    gc.freeze()  # modules stay, so let them not be searched for garbage again and again
    one_device_a_core()
    keep_roundings()
    # A cluster that takes the machine away says so by this signal: it is as good as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    keep_compiled()


def define_sampling_flags() -> None:
    """Flags of a script that samples for long: how often to save, and who shares the work."""
    flags.DEFINE_float(
        "save_minutes",
        5.0,
        "How often to save batches in mid-trajectory: how much time a kill may cost.",
        lower_bound=0.0,
    )
    flags.DEFINE_bool(
        "distributed",
        False,
        "One of several processes, started together by SLURM, Open MPI, Kubernetes or Cloud TPU.",
    )
    flags.DEFINE_string(
        "coordinator_address",
        None,
        "One of several processes, started together in another way: HOST:PORT, a free port of "
        "process 0's machine.",
    )
    flags.DEFINE_integer(
        "num_processes",
        None,
        "How many share the work and --workdir. Without the flags above they need not run at the "
        "same time.",
        lower_bound=1,
    )
    flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")
    flags.DEFINE_alias("process", "process_id")
    _show_in_help(
        "save_minutes", "distributed", "coordinator_address", "num_processes", "process_id"
    )


@contextmanager
def joined_processes(workdir: Path) -> Iterator[Processes]:
    """Those that the flags tell of: alone, one of several by hand, or one of several together.

    Raises:
        ProcessError: the flags do not fit together, or the processes do not find each other.
        OSError: `workdir` cannot be written.
    """
    given = flags.FLAGS
    address, count, index = given.coordinator_address, given.num_processes, given.process_id
    if address and not re.fullmatch(r".+:\d+", address):
        raise ProcessError(f"--coordinator_address: HOST:PORT, not {address!r}")
    several = address or count is not None or index is not None
    if several and not given.distributed and None in (count, index):
        raise ProcessError("of several processes each needs --num_processes and --process_id")
    if not (address or given.distributed):
        by_hand = Processes(index or 0, count or 1)
        with held(workdir, by_hand.index):
            yield by_hand
        return
    index, count = join(address, count, index)
    with held(workdir, index), alive(index, count, workdir) as processes:
        yield processes


def _show_in_help(*names: str) -> None:
    """Makes --help show flags as the script's own."""
    for name in names:
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])


def _about(module: str) -> str:
    """What --help begins with: the module's docstring, in whose examples is how it was started."""
    text = sys.modules[module].__doc__ or ""
    if not sys.argv[0].endswith(".py"):
        return text
    return re.sub(r"^repaint-jax [\w-]+", f"python {sys.argv[0]}", text, flags=re.MULTILINE)


def _config_file() -> Path:
    return Path(config_flags.get_config_filename(flags.FLAGS["config"]))


def _parse(argv: Sequence[str], about: str, fields: Fields) -> list[str]:
    """Parses flags; unlike absl it ends a misspelt config field or file in one line, too."""
    if any(flag in argv for flag in ("--help", "-h", "--helpfull", "--helpshort")):
        wrapped = (flags.text_wrap(line, None, "    ", "  ") for line in meanings(fields))
        text = "\n".join([about, "Fields of a configuration:", *wrapped, ""])
        sys.modules["__main__"].__doc__ = text  # which absl shows
        with suppress(BrokenPipeError):  # the reader has seen enough
            app.parse_flags_with_usage(list(argv))  # prints and exits
        sys.exit()
    argv = list(argv)
    for i, flag in enumerate(argv):  # the file is read before anybody else could expand its name
        if name := re.match(r"(--?config=)(.*)", flag, re.DOTALL):
            argv[i] = name[1] + str(_named_config(name[2]))
        elif flag in ("--config", "-config") and i + 1 < len(argv):
            argv[i + 1] = str(_named_config(argv[i + 1]))
    try:
        rest = flags.FLAGS(argv)
        if flags.FLAGS.config is not None:  # an unreadable file shows itself on first use
            flags.FLAGS.config.lock()
    except flags.Error as error:
        sys.exit(f"error: {_one_line(error)}")
    except (AttributeError, KeyError, OSError, SyntaxError) as error:
        sys.exit(f"error: --config: {_one_line(error)}")
    if len(rest) > 1:
        sys.exit(f"error: {rest[1]!r} is no flag; flags look like --config.mask=half")
    return rest


def _named_config(name: str) -> Path:
    """The file of a configuration that comes along, such as celeba or train/folder; or `name`."""
    path, folder = expanded(name), beside("configs")
    bare = re.fullmatch(r"\w+(/\w+)*", name)
    if bare and (found := folder / f"{name}.py").is_file():
        return found
    if not bare or path.is_file():
        return path
    names = sorted(
        file.relative_to(folder).with_suffix("").as_posix() for file in folder.rglob("*.py")
    )
    sys.exit(
        f"error: --config: there is no configuration {name!r}; give a file, or one of "
        f"{', '.join(names)}"
    )


def _flag(fault: object, flags_of: Mapping[str, str]) -> str:
    """The flag that mends an error or a warning, if it tells an argument: " (here --workdir)"."""
    argument, *value = mend_of(fault).split("=", 1)
    return f" (here {'='.join([flags_of[argument], *value])})" if argument in flags_of else ""


def _message(error: Warning | Exception | str) -> str:
    """The message in one line; of the system's own errors the part that helps."""
    if not isinstance(error, OSError) or error.strerror is None:
        return " ".join(str(error).split())
    where = f"{error.filename}: " if error.filename else ""
    mend = ": make room and run the same command again" if error.errno == errno.ENOSPC else ""
    return f"{where}{error.strerror}{mend}"


def _one_line(error: Exception) -> str:
    """The message without ml_collections' nested quotes and line breaks."""
    text = " ".join(str(error).replace("\\n", " ").replace("\\'", "'").split())
    if missing := re.search("No such file or directory: '(.+?)'", text):
        return f"there is no file {missing[1]}"
    unknown = re.match(r"""["']*(\w+)["']+""", text)
    if not unknown:
        return text
    close = re.search('Did you mean "(.+?)"', text)
    return f"there is no field {unknown[1]!r}" + (f"; did you mean {close[1]!r}?" if close else "")

"""Methods by name, as configurations and command lines have them.

repaint                         a method of `METHODS`, with its defaults
ddnm(eta=0.5)                   with other values for some of its fields
my_file.py:Replace(strength=2)  a class of one's own, in a file
my_package.my_module:Replace    or in a module
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import re
from pathlib import Path
from typing import Any

from repaint_jax.errors import ArgumentError
from repaint_jax.files import expanded
from repaint_jax.methods import METHODS, Method


def named_method(text: str, **defaults: Any) -> Method:
    """The method that `text` names.

    Args:
        text: as above.
        **defaults: values of fields that the text leaves open, where the method has such fields.

    Raises:
        ArgumentError: there is no such method, or it does not take such values.
    """
    parts = re.fullmatch(r"(?P<name>[^()]+?)\s*(\((?P<options>.*)\))?", text.strip(), re.DOTALL)
    if parts is None:
        raise ArgumentError("method", f"expected a name such as repaint, not {text!r}")
    construct = _own_class(parts["name"]) if ":" in parts["name"] else METHODS.get(parts["name"])
    if construct is None:
        raise ArgumentError(
            "method",
            f"one of {', '.join(METHODS)}, or FILE.py:CLASS for one of your own; not "
            f"{parts['name']!r}",
        )
    options = _options(text, parts["options"] or "")
    fields = [field.name for field in dataclasses.fields(construct)]
    if unknown := [name for name in options if name not in fields]:
        has = f"its fields are {', '.join(fields)}" if fields else "it has no fields"
        raise ArgumentError("method", f"{parts['name']} has no {unknown[0]!r}; {has}")
    fitting = {name: value for name, value in defaults.items() if name in fields}
    try:
        return construct(**{**fitting, **options})
    except (TypeError, ValueError) as error:
        raise ArgumentError("method", f"{text}: {error}") from error


def _options(text: str, options: str) -> dict[str, Any]:
    """The keyword arguments that stand in a method's parentheses."""
    try:
        call = ast.parse(f"f({options})", mode="eval").body
        words = call.keywords if isinstance(call, ast.Call) and not call.args else None
        if words is None or not all(word.arg for word in words):
            raise ValueError
        return {str(word.arg): ast.literal_eval(word.value) for word in words}
    except (SyntaxError, ValueError) as error:
        raise ArgumentError(
            "method", f"expected values by name, as repaint(eta=0.5); got {text}"
        ) from error


def _own_class(name: str) -> type:
    """A class of the user's: `FILE.py:CLASS` or `MODULE:CLASS`."""
    place, _, class_name = name.rpartition(":")
    try:
        if place.endswith(".py"):
            path = expanded(place)
            spec = importlib.util.spec_from_file_location(path.stem, path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(place)
    except (ImportError, FileNotFoundError) as error:
        raise ArgumentError("method", f"{Path(place)} cannot be imported: {error}") from error
    construct = getattr(module, class_name, None)
    if not isinstance(construct, type) or not dataclasses.is_dataclass(construct):
        raise ArgumentError(
            "method",
            f"{place} has no method {class_name}: a class under @repaint_jax.methods.method",
        )
    return construct

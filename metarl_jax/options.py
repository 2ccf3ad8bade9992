"""Options: what a function's keywords, their types and its docstring say of them.

A keyword whose default is an instance of a frozen dataclass stands for all the fields
of that dataclass, so that several functions share options that are documented once.
"""

import dataclasses
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple


class Option(NamedTuple):
    """One option of a command line, or keyword of a function."""

    name: str
    kind: Any  # its annotation
    default: Any
    help: str


def options_of(function: Callable, *, skip: Iterable[str] = ()) -> list[Option]:
    """Lists the options of a function or of a dataclass.

    Args:
      function: its keywords are options, documented in a section `Args:` or
        `Attributes:`.
      skip: keywords that are none.

    Raises:
      ValueError: if a keyword has no default, or cannot be written on a command line.
    """
    options = []
    helps = argument_helps(function.__doc__ or "")
    # Annotations may be strings, which would mean nothing elsewhere.
    parameters = inspect.signature(function, eval_str=True).parameters
    for name, parameter in parameters.items():
        if name in skip or parameter.kind is parameter.POSITIONAL_ONLY:
            continue
        default = parameter.default
        if _is_group(default):
            for option in options_of(type(default)):
                value = getattr(default, option.name)
                options.append(option._replace(default=value))
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise ValueError(
                f"{_name(function)} must list its options; got {parameter}"
            )
        if default is parameter.empty or not can_be_written(default):
            raise ValueError(
                f"{name} of {_name(function)} must have a default that a command line "
                f"can give, of numbers, names and tuples; got {parameter}"
            )
        kind = (
            type(default)
            if parameter.annotation is parameter.empty
            else (parameter.annotation)
        )
        options.append(Option(name, kind, default, helps.get(name, "")))
    return options


def grouped(
    function: Callable, values: Mapping[str, Any], *, skip: Iterable[str] = ()
) -> dict[str, Any]:
    """Returns the keywords of a function, made of those values that are its options."""
    keywords = {}
    for name, parameter in inspect.signature(function).parameters.items():
        default = parameter.default
        if name in skip:
            continue
        if _is_group(default):
            own = {field.name for field in dataclasses.fields(default)} & set(values)
            keywords[name] = dataclasses.replace(default, **{n: values[n] for n in own})
        elif name in values:
            keywords[name] = values[name]
    return keywords


def check_distinct(groups: Mapping[str, list[Option]]) -> None:
    """Raises a `ValueError` that names an option which two groups have."""
    owners: dict[str, str] = {}
    for owner, options in groups.items():
        for option in options:
            if option.name in owners:
                raise ValueError(
                    f"options must have names that differ; {option.name} is one of "
                    f"{owners[option.name]} and of {owner}"
                )
            owners[option.name] = owner


def can_be_written(value: Any) -> bool:
    """Tells whether a command line and a record can hold a value."""
    if isinstance(value, (list, tuple)):
        return all(map(can_be_written, value))
    return value is None or isinstance(value, (bool, int, float, str))


def written(values: Mapping[str, Any]) -> list[str]:
    """Returns the words of a command line that give options these values.

    Those that are None are left out: it cannot be given.
    """
    words = []
    for name, value in values.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, list | tuple):
            words += [f"--{flag}", *map(str, value)]
        elif value is not None:
            words += [f"--{flag}", str(value)]
    return words


def fits(kind: Any, value: Any) -> bool:
    """Tells whether a value is of a type, as far as a command line tells types apart.

    >>> fits(tuple[int, ...], [3, 4]), fits(int | None, None), fits(int, True)
    (True, True, False)
    """
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return any(fits(part, value) for part in parts)
    if origin is typing.Literal:
        return value in parts
    if kind in (None, types.NoneType):
        return value is None
    if (origin or kind) in (tuple, list):
        if not isinstance(value, (list, tuple)):
            return False
        if origin is tuple and parts[-1] is not ...:
            return len(parts) == len(value) and all(map(fits, parts, value))
        return not parts or all(fits(parts[0], item) for item in value)
    if kind in (int, float):
        numbers = (int, float) if kind is float else int
        return isinstance(value, numbers) and not isinstance(value, bool)
    return kind not in (bool, str) or isinstance(value, kind)


def argument_helps(docstring: str) -> dict[str, str]:
    """Reads what a Google-style docstring says of each argument or attribute."""
    docstring = inspect.cleandoc(docstring).replace("\nAttributes:\n", "\nArgs:\n")
    section = re.split(r"\n(?=\S)", docstring.partition("\nArgs:\n")[2])[0]
    helps = {}
    for entry in re.split(r"\n(?=\S)", textwrap.dedent(section)):
        name, _, text = entry.partition(":")
        helps[name.strip()] = " ".join(text.split())
    return helps


def literal(kind: Any) -> tuple[str, ...]:
    """Returns the names that a `Literal` allows; none for another type."""
    return typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()


def _is_group(default: Any) -> bool:
    return dataclasses.is_dataclass(default) and not isinstance(default, type)


def _name(function: Callable) -> str:
    return getattr(function, "__name__", type(function).__name__)

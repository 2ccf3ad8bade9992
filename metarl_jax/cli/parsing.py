"""Words of the command line into options, by tyro; mistakes into one sentence."""

import contextlib
import dataclasses
import difflib
import inspect
import io
import itertools
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import tyro

from metarl_jax import catalogue
from metarl_jax.choice import Choice
from metarl_jax.cli.screen import say
from metarl_jax.options import Option, options_of

MARKERS = (tyro.conf.OmitArgPrefixes, tyro.conf.DisallowNone)


@dataclasses.dataclass(frozen=True)
class ChoiceOptions:
    """What learns in a world, and how it acts.

    Attributes:
      method: what learns in a world; maml where it is not said. FILE.py:NAME for a
        method of your own.
      policy: how the agent acts: mlp, memory or hypernetwork; by default what suits the
        method.
    """

    method: str | None = None
    policy: str | None = None


def is_help(args: Sequence[str]) -> bool:
    """Tells whether help is asked for."""
    return any(arg in ("-h", "--help") for arg in args)


def split_name(args: list[str]) -> tuple[str | None, list[str]]:
    """Takes off the name that a command begins with, if it begins with one."""
    return (args[0], args[1:]) if args and args[0][:1] != "-" else (None, args)


def take_choice(name: str, args: list[str]) -> tuple[Choice, list[str]]:
    """Takes `--method` and `--policy` out of the arguments of a world or experiment.

    A function of one's own may have options of these names: then they are its own.

    Raises:
      ValueError: if there is nothing of a name.
    """
    catalogue.check(name, "experiments", "worlds")
    if catalogue.is_own(name):
        found = catalogue.load(name, "experiments", "worlds")
        if inspect.isfunction(found):
            own = [option.name for option in options_of(found)]
            if {"method", "policy"} & set(own):
                return Choice(name), args
    options, rest = take(ChoiceOptions, args, prog=f"metarl-jax train {name}")
    choice = Choice(name, options.method, options.policy)
    choice.check_names()
    return choice, rest


def groups_of(factory: Callable) -> dict[str, list[Option]]:
    """Returns the options of what builds an experiment, in groups."""
    if hasattr(factory, "groups"):
        return factory.groups()  # type: ignore
    return {"experiment": options_of(factory)}


def group_types(
    groups: Mapping[str, list[Option]], defaults: Mapping[str, Any] = {}
) -> dict[str, type]:
    """Builds types whose fields are the options, by group.

    Args:
      groups: the options.
      defaults: in place of the options' own.
    """
    types = {}
    for group, options in groups.items():
        fields = [
            (
                option.name,
                Annotated[option.kind, tyro.conf.arg(help=option.help)],
                dataclasses.field(default=defaults.get(option.name, option.default)),
            )
            for option in options
        ]
        made = dataclasses.make_dataclass(group.capitalize(), fields, frozen=True)
        made.__doc__ = f"Options of the {group}."
        types[group] = made
    return types


def arguments(about: str, groups: Mapping[str, Any]) -> type:
    """Builds the type of a command's options out of groups of them."""
    made = dataclasses.make_dataclass(
        "Arguments",
        [
            (name, type(group), dataclasses.field(default=group))
            for name, group in groups.items()
        ],
        frozen=True,
    )
    made.__doc__ = about
    return made


def flattened(parsed: Any, groups: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the parsed options of some groups together."""
    return {
        name: value
        for group in groups
        for name, value in dataclasses.asdict(getattr(parsed, group)).items()
    }


def about(factory: Callable) -> str:
    """Returns what is said of an experiment where help is asked for."""
    text = factory.about if hasattr(factory, "about") else inspect.getdoc(factory)  # type: ignore
    text = text or ""
    return text.partition("\nArgs:")[0].strip()


def parse_known(kind: type, args: Sequence[str], *, prog: str) -> tuple[Any, list[str]]:
    """Parses options with tyro, and returns with them what it did not know.

    Raises:
      ValueError: one sentence, where tyro would print a box and exit.
    """
    printed, errors = _Help(sys.stdout), io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
            return tyro.cli(
                kind, args=args, prog=prog, config=MARKERS, return_unknown_args=True
            )
    except SystemExit as exit_:
        if not exit_.code:
            say(printed.getvalue().removesuffix("\n"))
            raise
        raise ValueError(_sentence(errors.getvalue(), args, prog)) from None


class _Help(io.StringIO):
    """What is printed for a screen that may be closed before all of it was."""

    def __init__(self, screen: Any):
        super().__init__()
        self.isatty = lambda: screen is not None and screen.isatty()
        self.letters = getattr(screen, "encoding", None) or "utf-8"

    @property
    def encoding(self) -> str:  # pyright: ignore
        """The screen's, which decides how boxes are drawn."""
        return self.letters


def take(kind: type, args: list[str], *, prog: str) -> tuple[Any, list[str]]:
    """Parses some options out of others, which are returned with them.

    A request for help is left to the rest.
    """
    helps = [arg for arg in args if arg in ("-h", "--help")]
    options, rest = parse_known(
        kind, [arg for arg in args if arg not in helps], prog=prog
    )
    return options, [*rest, *helps]


def parse(kind: type, args: list[str], *, prog: str) -> Any:
    """Parses options, all of which must be known.

    Raises:
      ValueError: one sentence.
    """
    parsed, unknown = parse_known(kind, args, prog=prog)
    if unknown:
        flags = [arg for arg in unknown if arg.startswith("-")]
        first = (flags or unknown)[0].partition("=")[0]
        known = ["--" + name.replace("_", "-") for name in _field_names(kind)]
        what = "option" if flags else "argument"
        raise ValueError(
            f"unknown {what} {first!r}{suggestion(first, known)}; see {prog} --help"
        )
    _check_paths(kind, args)
    return parsed


def _check_paths(kind: type, args: Sequence[str]) -> None:
    """Raises a `ValueError` if a path is empty, which would be the current folder."""
    for field in dataclasses.fields(kind):
        nested = field.type
        if isinstance(nested, type) and dataclasses.is_dataclass(nested):
            _check_paths(nested, args)
        elif "Path" in str(nested):
            option = "--" + field.name.replace("_", "-")
            if (option, "") in itertools.pairwise(args) or f"{option}=" in args:
                raise ValueError(f"{option} must be a path; got ''")


def value_of(option: str, args: Sequence[str]) -> str | None:
    """Finds the value of an option as it was typed, without a parser."""
    for i, arg in enumerate(args):
        if arg == option and i + 1 < len(args):
            rest = itertools.takewhile(
                lambda arg: not re.match("--?[a-z]", arg), args[i + 1 :]
            )
            return " ".join(rest)
        if arg.startswith(option + "="):
            return arg.partition("=")[2]
    return None


def suggestion(word: str, known: Any) -> str:
    """Returns a name that is much like a word, as a question in brackets."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _field_names(kind: type) -> list[str]:
    """Returns the names of a dataclass's fields, those of nested ones in place."""
    names = []
    for field in dataclasses.fields(kind):
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            names += _field_names(field.type)
        else:
            names.append(field.name)
    return names


def _sentence(box: str, args: Sequence[str], prog: str) -> str:
    """Takes the sentence out of the box that tyro draws around it."""
    lines = [line.strip("│╭╮╰╯| ") for line in box.splitlines()[1:]]
    lines = [line for line in lines if line]
    # The box has a rule below its text and, where there are no fine lines, one above.
    ruled = [i for i, line in enumerate(lines) if set(line) <= set("─-")]
    if ruled and ruled[0] == 0:
        lines, ruled = lines[1:], [i - 1 for i in ruled[1:]]
    text = " ".join(lines[: ruled[0] if ruled else None]).rstrip(".")
    if match := re.match(r"Error parsing (--\S+?):", text):
        option = match[1]
        kind = re.search(rf"^{option} (.*)$", "\n".join(lines), re.MULTILINE)
        kinds = {
            "INT": "a whole number",
            "FLOAT": "a number",
            "[INT [INT ...]]": "whole numbers",
            "[FLOAT [FLOAT ...]]": "numbers",
        }
        if kind and kind[1] in kinds:
            got = value_of(option, args)
            text = f"{option} must be {kinds[kind[1]]}; got {got!r}"
    return f"{text}; see {prog} --help".lstrip("; ")

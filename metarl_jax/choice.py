"""What is to be trained, by names: on the command line, in a record, in a sweep."""

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from metarl_jax import catalogue
from metarl_jax.options import fits
from metarl_jax.runs import own_files

if TYPE_CHECKING:
    from metarl_jax.runs.experiment import Experiment

DEFAULT_METHOD = "maml"


class Choice(NamedTuple):
    """An experiment, or a world with a method; each may be one's own, `FILE.py:NAME`.

    Attributes:
      name: of an experiment or a world.
      method: of a method; None for an experiment's own, MAML in a world.
      policy: a name in `metarl_jax.settings.POLICIES`; None for the method's own.
    """

    name: str
    method: str | None = None
    policy: str | None = None

    @property
    def label(self) -> str:
        """What runs of it are called; it can name a directory."""
        method = self.method
        if method is None and self.name in catalogue.entries("worlds"):
            method = DEFAULT_METHOD
        return "-".join(
            _label(part) for part in (self.name, method, self.policy) if part
        )

    def check_names(self) -> None:
        """Raises a `ValueError` where there is nothing of a name; imports nothing."""
        catalogue.check(self.name, "experiments", "worlds")
        if self.method is not None:
            catalogue.check(self.method, "methods")

    def load(self) -> "Callable[..., Experiment]":
        """Imports what builds the experiment; its keywords are the options.

        Raises:
          ValueError: if there is nothing of a name, it is of another kind, or the
            experiment leaves no choice of a method or a policy.
        """
        from metarl_jax.recipe import Method, Recipe, World

        found: Any = catalogue.load(self.name, "experiments", "worlds")
        if isinstance(found, World):
            method = catalogue.load(self.method or DEFAULT_METHOD, "methods")
            if not isinstance(method, Method):
                raise ValueError(f"{self.method} must be a Method; got {method!r}")
            return Recipe(found, method, policy=self.policy)
        if isinstance(found, Recipe):
            if self.method not in (None, found.method.name):
                raise ValueError(
                    f"{self.name} is an experiment with {found.method.name}; "
                    f"--method {self.method} needs a world, as `metarl-jax list` shows"
                )
            return found if self.policy is None else replace(found, policy=self.policy)
        if isinstance(found, Method) or not callable(found):
            raise ValueError(
                f"{self.name} must be a World, a Recipe or a function that returns an "
                f"Experiment; got {type(found).__name__}"
            )
        if self.method is not None or self.policy is not None:
            raise ValueError(
                f"{self.name} is a function of its own options: --method and --policy "
                "choose for worlds and experiments made of them"
            )
        return cast("Callable[..., Experiment]", found)

    def build(
        self, factory: "Callable[..., Experiment]", options: Mapping[str, Any]
    ) -> "Experiment":
        """Builds the experiment by what `load` returned, and notes what it was made of.

        Args:
          factory: what `load` returned.
          options: of the factory; the records have those that are left out, too.

        Raises:
          ValueError: if the factory returns something else, or refuses the options.
        """
        from metarl_jax.runs.experiment import Experiment, Origin

        experiment = factory(**options)
        if not isinstance(experiment, Experiment):
            raise ValueError(
                f"{self.name} must return an Experiment; got "
                f"{type(experiment).__name__}"
            )
        parameters = inspect.signature(factory).parameters.values()
        every = {p.name: p.default for p in parameters} | dict(options)
        return experiment._replace(origin=Origin(self.label, self.record(), every))

    def named(self) -> "Choice":
        """Makes paths absolute and remembers the files, which the user has named."""
        choice = self._replace(
            name=_absolute(self.name), method=self.method and _absolute(self.method)
        )
        for source in choice.sources().values():
            own_files.remember(source)
        return choice

    def sources(self) -> dict[str, catalogue.Source]:
        """Returns the files of one's own that it names, by what they are of."""
        found = {"name": catalogue.source_of(self.name)}
        if self.method is not None:
            found["method"] = catalogue.source_of(self.method)
        return {part: source for part, source in found.items() if source is not None}

    def record(self) -> dict[str, Any]:
        """Returns what a run's `config.json` keeps of it."""
        sources = {part: source._asdict() for part, source in self.sources().items()}
        return {**self._asdict(), "sources": sources}


def recorded(
    config: Mapping[str, Any],
    run_dir: str | Path,
    again: Mapping[str, str | None] = {},
) -> Choice:
    """Reads what a run trains, without importing anything.

    A record may be a stranger's. A file that it names may be imported only if it is the
    one that this user once named, is as it was then and is not in the run's directory.

    Args:
      config: what was recorded.
      run_dir: the run's directory.
      again: what the user names again: the `"name"`, the `"method"`, or None.

    Raises:
      ValueError: if a file must be named again, or the record is not of a choice.
    """
    parts = config.get("chosen", {"name": config["experiment"]})
    try:
        choice = Choice(parts["name"], parts.get("method"), parts.get("policy"))
        sources = {
            part: catalogue.Source(source["path"], source["sha256"])
            for part, source in parts.get("sources", {}).items()
        }
        kinds = [type(value) for value in (*choice, *sum(sources.values(), ()))]
        if not set(kinds) <= {str, type(None)} or choice.name is None:
            raise TypeError
    except (AttributeError, KeyError, TypeError):
        raise ValueError(
            f"the record of {run_dir} does not say what it trains; got {parts!r}"
        ) from None
    again = {part: name for part, name in again.items() if name is not None}
    for part, name in (("name", choice.name), ("method", choice.method)):
        if part not in again and name is not None and catalogue.is_own(name):
            _check_source(name, sources.get(part), run_dir, part)
    choice = choice._replace(**again)
    choice.check_names()
    return choice.named() if again else choice


def recorded_options(
    factory: Callable[..., Any], config: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Returns the recorded options of a run, as its experiment takes them.

    Raises:
      ValueError: if the experiment has no option of a recorded name, or it cannot have
        such a value.
    """
    if config is None:
        return {}
    known = inspect.signature(factory).parameters
    for name, value in config["options"].items():
        if name not in known:
            raise ValueError(
                f"the run was made with the option {name}, which "
                f"{config['experiment']} does not have; an experiment with the same "
                "options is required"
            )
        kind = known[name].annotation
        if not fits(kind, value):
            raise ValueError(
                f"the record of the run has the option {name} = {value!r}, where "
                f"{getattr(kind, '__name__', kind)} is required"
            )
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in config["options"].items()
    }


def _check_source(name, source, run_dir, part) -> None:
    """Raises a `ValueError` unless a recorded file may be imported."""
    attribute = name.rpartition(":")[2]
    path = Path(name.rpartition(":")[0])
    named = f"{path.name}:{attribute}"
    if part == "name":
        hint = (
            f"evaluate {run_dir} --experiment {named}, train {named} --resume {run_dir}"
        )
    else:
        hint = f"evaluate {run_dir} --method {named}"
    hint = f"it is imported when it is named again: {hint}"
    if source is None or not path.is_file():
        raise ValueError(f"{path}, which {run_dir} was trained from, is gone; {hint}")
    if Path(os.path.realpath(run_dir)) in Path(os.path.realpath(path)).parents:
        raise ValueError(f"{path} lies inside of the run's directory; {hint}")
    found = catalogue.source_of(name)
    if found is None or found.sha256 != source.sha256:
        raise ValueError(
            f"{path} has changed since {run_dir} was trained from it; {hint}"
        )
    if not own_files.is_remembered(found):
        raise ValueError(
            f"{path}, which {run_dir} names, is no file that was trained from here; "
            f"{hint}"
        )


def _absolute(name: str) -> str:
    if not catalogue.is_own(name):
        return name
    path, _, attribute = name.rpartition(":")
    return f"{Path(path).resolve()}:{attribute}"


def _label(name: str) -> str:
    if not catalogue.is_own(name):
        return name
    path, _, attribute = name.rpartition(":")
    parts = dict.fromkeys([Path(path).stem, attribute])
    return "-".join(part.replace("_", "-") for part in parts)

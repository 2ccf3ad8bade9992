"""A run that a command is given: its experiment built again, its newest checkpoint."""

from pathlib import Path
from typing import Any, Protocol

from metarl_jax import choice as choices
from metarl_jax.runs import directory, files


class Options(Protocol):
    """What a command that looks at a run is told of it."""

    @property
    def run(self) -> Path: ...  # noqa: D102
    @property
    def output(self) -> Path | None: ...  # noqa: D102
    @property
    def run_seed(self) -> int: ...  # noqa: D102
    @property
    def experiment(self) -> str | None: ...  # noqa: D102
    @property
    def method(self) -> str | None: ...  # noqa: D102


def load(options: Options) -> Any:
    """Loads the run; where it is written into, its links are looked at first.

    Raises:
      ValueError: if it is no run, has no checkpoint, leads out of itself, or what it
        trained has to be named again.
    """
    config = files.read_config(options.run)
    if options.output is None:
        directory.check_links(options.run)
    again = {"name": options.experiment, "method": options.method}
    choice = choices.recorded(config, options.run, again)
    factory = choice.load()
    experiment = choice.build(factory, choices.recorded_options(factory, config))
    from metarl_jax.learned import load_run

    return load_run(options.run, options.run_seed, experiment=experiment)

"""Curves at Weights & Biases or trackio, by one callback.

Extras: `pip install "metarl-jax[wandb]"` or `"metarl-jax[trackio]"`. TensorBoard's
files are written in any case.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from metarl_jax.types import Info
from metarl_jax.validation import check_choice, check_flags

Service = Literal["wandb", "trackio"]
SERVICES: tuple[Service, ...] = ("wandb", "trackio")


class Tracker:
    """What `train` calls after each step; a context, closed at its end.

    Attributes:
      service: the module that logs.
      run: what it made of `init`.
    """

    def __init__(self, service: Any, run: Any):
        self.service, self.run = service, run

    def __call__(self, step: int, info: Info) -> None:
        """Logs all scalars of a step, of several seeds their means."""
        self.service.log(scalars(info), step=step)

    def __enter__(self) -> "Tracker":
        """Returns itself."""
        return self

    def __exit__(self, *error: Any) -> None:
        """Says that nothing more will come."""
        del error
        self.service.finish()


def scalars(info: Info) -> dict[str, float]:
    """Returns the finite scalars of an info by name; of several seeds the means.

    >>> scalars({"a": np.float32(2), "b": np.array([1.0, 3.0]), "c": np.nan})
    {'a': 2.0, 'b': 2.0}

    Args:
      info: leaves `[]`, or `[S]` for several seeds.
    """
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(info):
        if np.ndim(leaf) < 2 and np.isfinite(mean := float(np.mean(leaf))):
            found[jax.tree_util.keystr(path, simple=True, separator=".")] = mean
    return found


def track(
    service: Service,
    *,
    project: str = "metarl-jax",
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
    directory: str | Path | None = None,
    offline: bool = False,
) -> Tracker:
    """Begins a run at a service that keeps curves.

        with track("wandb", offline=True) as callback:
            metarl_jax.train(experiment, callback=callback)

    Args:
      service: `"wandb"`, or `"trackio"`, which keeps them on this machine.
      project: that the run belongs to.
      name: of the run; None for one that the service makes up.
      config: what the run was made of.
      directory: where files go that wait to be sent; None for the service's place.
      offline: whether nothing is sent: `wandb sync` does so later.

    Returns:
      A callback of `train`, and a context.

    Raises:
      ValueError: if there is no such service or it is not installed.
    """
    check_choice(SERVICES, service=service)
    check_flags(offline=offline)
    try:
        module = importlib.import_module(service)
    except ImportError:
        raise ValueError(
            f'{service} is not installed; pip install "metarl-jax[{service}]" is '
            "required"
        ) from None
    options: dict[str, Any] = {
        "project": project,
        "name": name,
        "config": dict(config or {}),
    }
    if service == "wandb":
        options["mode"] = "offline" if offline else None
        options["dir"] = None if directory is None else str(directory)
    return Tracker(module, module.init(**options))

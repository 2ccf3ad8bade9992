"""Meta-reinforcement learning in JAX: one compiled meta-training step.

The names that a notebook needs are here, each imported when it is first asked for.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metarl_jax.acting import act as act
    from metarl_jax.acting import observe as observe
    from metarl_jax.acting import start as start
    from metarl_jax.acting import (
        trajectories_from_episodes as trajectories_from_episodes,
    )
    from metarl_jax.envs.gymnasium_family import gymnasium_family as gymnasium_family
    from metarl_jax.envs.gymnax_family import gymnax_family as gymnax_family
    from metarl_jax.export.writing import export_policy as export_policy
    from metarl_jax.export.writing import load_exported as load_exported
    from metarl_jax.inspection.inspecting import inspect as inspect
    from metarl_jax.learned import adaptation_curve as adaptation_curve
    from metarl_jax.learned import compare as compare
    from metarl_jax.learned import evaluate as evaluate
    from metarl_jax.learned import load_run as load_run
    from metarl_jax.learned import make_experiment as make_experiment
    from metarl_jax.training import Evaluation as Evaluation
    from metarl_jax.training import Experiment as Experiment
    from metarl_jax.training import Trained as Trained
    from metarl_jax.training import train as train

_HOMES = {
    "act": "acting",
    "adaptation_curve": "learned",
    "compare": "learned",
    "evaluate": "learned",
    "Evaluation": "training",
    "Experiment": "training",
    "export_policy": "export.writing",
    "gymnasium_family": "envs.gymnasium_family",
    "gymnax_family": "envs.gymnax_family",
    "inspect": "inspection.inspecting",
    "load_exported": "export.writing",
    "load_run": "learned",
    "make_experiment": "learned",
    "observe": "acting",
    "start": "acting",
    "train": "training",
    "Trained": "training",
    "trajectories_from_episodes": "acting",
}
__all__ = list(_HOMES)  # pyright: ignore


def __getattr__(name: str):
    """Imports a name when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"metarl_jax.{_HOMES[name]}")
    globals()[name] = getattr(module, name)
    return globals()[name]


def __dir__() -> list[str]:
    """Lists what there is, imported or not."""
    return sorted({*globals(), *__all__})

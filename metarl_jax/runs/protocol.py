"""How runs were evaluated, in words, from `evaluation.json`."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any


def counts(result: Mapping[str, Any]) -> str:
    """Says of how many seeds, tasks and episodes a mean was taken."""
    num_seeds, num_episodes = result["num_seeds"], result["num_episodes"]
    return (
        f"{num_seeds} seed{'s' * (num_seeds > 1)} × {result['num_tasks']} held-out "
        f"tasks × {num_episodes} episode{'s' * (num_episodes > 1)}"
    )


def interval(result: Mapping[str, Any]) -> str:
    """Says what the intervals are, and over what."""
    if "interval" in result:
        return result["interval"]
    # Records of before it was recorded: of a bootstrap, too narrow for few seeds.
    over = "seeds and tasks" if result["num_seeds"] > 1 else "tasks"
    return f"95 % bootstrap interval over {over}"


def differences(results: Sequence[Mapping[str, Any]]) -> str:
    """Says in what respects results were not measured alike; seeds may differ.

    Returns:
      Such as `"held-out tasks 20 and 40"`; empty where there is nothing to say.
    """
    respects = {
        "world": "worlds",
        "num_tasks": "held-out tasks",
        "num_episodes": "episodes",
        "actions": "actions",
        "evaluation_seed": "seed of the evaluation",
    }
    found = []
    for key, what in respects.items():
        values = dict.fromkeys(str(result[key]) for result in results if key in result)
        if len(values) > 1:
            found.append(f"{what} {' and '.join(values)}")
    return "; ".join(found)


def warn_of_differences(results: Sequence[Mapping[str, Any]]) -> None:
    """Warns, in the name of who called the caller, if results were measured unalike."""
    if found := differences(results):
        warnings.warn(f"the runs were evaluated differently: {found}", stacklevel=3)

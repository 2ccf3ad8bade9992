"""Figures from what a run recorded: nothing is computed again, nothing is imported.

Each figure is a function of recorded JSON and can be drawn again at any time
(`metarl-jax plot RUN`). Several runs share one figure, a colour each.
"""

from metarl_jax.plotting.curves import (
    adaptation_curve,
    learning_curve,
    sample_efficiency,
)
from metarl_jax.plotting.plane import beliefs, goal_beliefs, paths
from metarl_jax.plotting.runs import plot_run, plot_runs
from metarl_jax.plotting.style import (
    GREY,
    PALETTE,
    STYLE,
    plain,
    set_title,
    write_png,
)

__all__ = [
    "GREY",
    "PALETTE",
    "STYLE",
    "adaptation_curve",
    "beliefs",
    "goal_beliefs",
    "learning_curve",
    "paths",
    "plain",
    "plot_run",
    "plot_runs",
    "sample_efficiency",
    "set_title",
    "write_png",
]

"""Figures from what a run recorded: nothing is computed again, nothing is imported.

Each figure is a function of recorded JSON and can be drawn again at any time
(`metarl-jax plot RUN`). Several runs share one figure, a colour each.
"""

from metarl_jax.plotting.curves import (
    adaptation_curve,
    learning_curve,
    performance_profiles,
    sample_efficiency,
)
from metarl_jax.plotting.plane import beliefs, goal_beliefs, paths
from metarl_jax.plotting.runs import Records, draw, plot_run, plot_runs, read_runs
from metarl_jax.plotting.style import (
    GREY,
    PALETTE,
    STYLE,
    as_svg,
    plain,
    set_title,
    write_figures,
    write_png,
)
from metarl_jax.plotting.tables import (
    as_csv,
    as_latex,
    differences_markdown,
    markdown,
    pairs,
)

__all__ = [
    "GREY",
    "PALETTE",
    "STYLE",
    "Records",
    "adaptation_curve",
    "as_csv",
    "as_latex",
    "as_svg",
    "beliefs",
    "differences_markdown",
    "draw",
    "goal_beliefs",
    "learning_curve",
    "markdown",
    "pairs",
    "paths",
    "performance_profiles",
    "plain",
    "plot_run",
    "plot_runs",
    "read_runs",
    "sample_efficiency",
    "set_title",
    "write_figures",
    "write_png",
]

"""An ant that has to go one way, moved by MuJoCo (extra `[mujoco]`, or `[mjx]`)."""

from metarl_jax.envs import ant, robots
from metarl_jax.recipe import World
from metarl_jax.types import TaskDistribution
from metarl_jax.worlds.ant_goal import WALKING


def tasks(
    *,
    variant: ant.Variant = "promp",
    horizon: int | None = None,
    engine: robots.SpatialEngine | None = None,
) -> TaskDistribution:
    """Builds ants that are to go along a direction.

    Args:
      variant: the paper whose directions are drawn: forwards or backwards, or any.
      horizon: control steps of an episode; None for the paper's.
      engine: MuJoCo on the host, or MJX in the compiled step; None for MJX where it is
        installed and JAX has an accelerator, else MuJoCo.
    """
    return robots.robot_family(
        ant.ant_direction(variant), engine=engine, horizon=horizon
    )


ant_direction = World(tasks, defaults=WALKING, shown=lambda task: task.goal)

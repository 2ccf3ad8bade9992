"""An ant that is to run at a speed, moved by MuJoCo (extra `[mujoco]`, or `[mjx]`)."""

from metarl_jax.envs import ant, robots
from metarl_jax.recipe import World
from metarl_jax.types import TaskDistribution
from metarl_jax.worlds.ant_goal import WALKING


def tasks(
    *, horizon: int | None = None, engine: robots.SpatialEngine | None = None
) -> TaskDistribution:
    """Builds ants that are to run at a speed.

    Args:
      horizon: control steps of an episode; None for the paper's.
      engine: MuJoCo on the host, or MJX in the compiled step; None for MJX where it is
        installed and JAX has an accelerator, else MuJoCo.
    """
    return robots.robot_family(ant.ant_velocity(), engine=engine, horizon=horizon)


ant_velocity = World(tasks, defaults=WALKING, shown=lambda task: task.goal[None])

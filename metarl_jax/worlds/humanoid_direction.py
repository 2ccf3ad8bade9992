"""A humanoid that has to go one way, moved by MuJoCo (extra `[mujoco]`, or `[mjx]`)."""

from metarl_jax.envs import humanoid, robots
from metarl_jax.recipe import World
from metarl_jax.types import TaskDistribution
from metarl_jax.worlds.ant_goal import WALKING


def tasks(
    *, horizon: int | None = None, engine: robots.SpatialEngine | None = None
) -> TaskDistribution:
    """Builds humanoids that are to go along a direction.

    Args:
      horizon: control steps of an episode; None for the papers'.
      engine: MuJoCo on the host, or MJX in the compiled step; None for MJX where it is
        installed and JAX has an accelerator, else MuJoCo.
    """
    return robots.robot_family(
        humanoid.humanoid_direction(), engine=engine, horizon=horizon
    )


humanoid_direction = World(tasks, defaults=WALKING, shown=lambda task: task.goal)

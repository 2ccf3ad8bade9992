"""A swimmer of three links that is to swim at a speed (1810.06784)."""

from metarl_jax.envs import locomotion, robots
from metarl_jax.recipe import World
from metarl_jax.types import TaskDistribution
from metarl_jax.worlds.half_cheetah_velocity import RUNNING


def tasks(
    *, horizon: int | None = None, engine: robots.Engine = "planar"
) -> TaskDistribution:
    """Builds swimmers that are to swim at a speed.

    Args:
      horizon: control steps of an episode; None for the paper's.
      engine: what moves the robot: in the compiled step, MuJoCo on the host, or MJX.
    """
    return robots.robot_family(
        locomotion.swimmer_velocity(), engine=engine, horizon=horizon
    )


swimmer_velocity = World(tasks, defaults=RUNNING, shown=lambda task: task.goal[None])

"""A half-cheetah that is to run forwards or backwards (1703.03400)."""

from metarl_jax.envs import locomotion, robots
from metarl_jax.recipe import World
from metarl_jax.types import TaskDistribution
from metarl_jax.worlds.half_cheetah_velocity import RUNNING


def tasks(
    *,
    variant: locomotion.Paper = "promp",
    horizon: int | None = None,
    engine: robots.Engine = "planar",
) -> TaskDistribution:
    """Builds half-cheetahs that are to run one way or the other.

    Args:
      variant: the paper whose observation and horizon it has.
      horizon: control steps of an episode; None for the variant's.
      engine: what moves the robot: in the compiled step, MuJoCo on the host, or MJX.
    """
    return robots.robot_family(
        locomotion.half_cheetah_direction(variant), engine=engine, horizon=horizon
    )


half_cheetah_direction = World(
    tasks, defaults=RUNNING, shown=lambda task: task.goal[None]
)

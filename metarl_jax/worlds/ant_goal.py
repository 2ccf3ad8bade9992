"""An ant that has to find a place, moved by MuJoCo (extra `[mujoco]`, or `[mjx]`)."""

from metarl_jax.envs import ant, robots
from metarl_jax.recipe import World
from metarl_jax.types import TaskDistribution


def tasks(
    *, horizon: int | None = None, engine: robots.SpatialEngine | None = None
) -> TaskDistribution:
    """Builds ants that are to go to a place.

    Args:
      horizon: control steps of an episode; None for the paper's.
      engine: MuJoCo on the host, or MJX in the compiled step; None for MJX where it is
        installed and JAX has an accelerator, else MuJoCo.
    """
    return robots.robot_family(ant.ant_goal(), engine=engine, horizon=horizon)


WALKING = {
    "gradient": {"num_episodes": 10, "num_eval_episodes": 5},
    "memory": {
        "num_tasks": 32,
        "num_episodes": 2,
        "entropy_coeff": 0.0,
        "num_eval_episodes": 1,
        "num_adaptation_steps": 1,
    },
    "inference": {
        "recent_capacity": 4000,
        "num_eval_episodes": 1,
        "num_adaptation_steps": 2,
    },
}

ant_goal = World(tasks, defaults=WALKING, shown=lambda task: task.goal)

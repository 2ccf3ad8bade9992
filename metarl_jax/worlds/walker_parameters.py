"""A walker whose masses, inertias, friction and damping are unknown (1903.08254)."""

from collections.abc import Callable
from functools import partial

from metarl_jax.envs import locomotion, robots
from metarl_jax.envs.planar.variation import random_parameters
from metarl_jax.recipe import World
from metarl_jax.types import TaskDistribution
from metarl_jax.validation import check_not_negative
from metarl_jax.worlds.half_cheetah_velocity import RUNNING


def unknown_bodies(
    definition: locomotion.Locomotion,
) -> Callable[..., TaskDistribution]:
    """Makes what builds robots of unknown bodies that do as defined."""

    def tasks(
        *,
        log_scale: float = 3.0,
        horizon: int | None = None,
        engine: robots.BodyEngine = "planar",
    ) -> TaskDistribution:
        """Builds robots of unknown bodies that are to run.

        Args:
          log_scale: L; masses, inertias and friction are multiplied by 1.5^U(-L, L),
            damping by 1.3^U(-L, L).
          horizon: control steps of an episode; None for the papers'.
          engine: what moves the robot: in the compiled step, or MuJoCo on the host.
        """
        check_not_negative(log_scale=log_scale)
        return robots.robot_family(
            definition,
            engine=engine,
            horizon=horizon,
            sample_physics=partial(random_parameters, log_scale=log_scale),
        )

    return tasks


walker_parameters = World(unknown_bodies(locomotion.walker_running()), defaults=RUNNING)

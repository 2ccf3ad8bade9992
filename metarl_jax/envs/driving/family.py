"""Which tasks there are: ranges of the car's physics, the traffic and the road."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.envs.driving.driver import oracle
from metarl_jax.envs.driving.measures import MEASURES
from metarl_jax.envs.driving.world import BENT, NUM_KNOTS, Driving, EnvParams
from metarl_jax.envs.gymnax_family import gymnax_family
from metarl_jax.envs.ranges import Range
from metarl_jax.types import Key, TaskDistribution
from metarl_jax.validation import check_at_least, check_choice, check_positive


class Ranges(NamedTuple):
    """From what tasks are drawn, uniformly; low and high ends.

    Attributes:
      friction: μ of tyre and road.
      wheelbase: L, metres.
      steering_delay: τ, seconds; at most 0.6.
      load: mass, in units of the empty car's.
      density: vehicles a metre of road, all lanes together.
      aggressiveness: of the others, 0 careful and 1 aggressive.
    """

    friction: Range = (0.4, 1.0)
    wheelbase: Range = (2.4, 3.6)
    steering_delay: Range = (0.0, 0.4)
    load: Range = (1.0, 1.6)
    density: Range = (0.015, 0.04)
    aggressiveness: Range = (0.0, 1.0)


INSIDE = Ranges()
# Beyond the former at the harder end, in everything at once.
OUTSIDE = Ranges(
    friction=(0.25, 0.4),
    wheelbase=(3.6, 4.5),
    steering_delay=(0.4, 0.6),
    load=(1.6, 2.0),
    density=(0.04, 0.055),
    aggressiveness=(1.0, 1.3),
)


def draw_task(key: Key, ranges: Ranges, num_vehicles: int) -> EnvParams:
    """Draws a task: everything uniform in its range.

    Others wish to drive at 16 to 26 m/s. A knot of the road is straight in half of the
    cases, and else curved by at most 1/167 m.
    """
    key_ranges, key_desired, key_straight, key_bend = jax.random.split(key, 4)
    low, high = jnp.asarray(ranges).T
    values = jax.random.uniform(key_ranges, low.shape, minval=low, maxval=high)
    straight = jax.random.bernoulli(key_straight, 0.5, (NUM_KNOTS,))
    bend = jax.random.uniform(key_bend, (NUM_KNOTS,), minval=-BENT, maxval=BENT)
    return EnvParams(
        **dict(zip(ranges._fields, values, strict=True)),
        desired=jax.random.uniform(
            key_desired, (num_vehicles,), minval=16.0, maxval=26.0
        ),
        curvature=jnp.where(straight, 0.0, bend),
    )


def driving_family(
    *,
    horizon: int = 75,
    num_vehicles: int = 8,
    heldout: Literal["inside", "outside"] = "inside",
    inside: Ranges = INSIDE,
    outside: Ranges = OUTSIDE,
) -> TaskDistribution:
    """Builds the family.

    Args:
      horizon: T, steps of 0.2 s in an episode.
      num_vehicles: others on the road.
      heldout: whether held-out tasks are from within the ranges of meta-training, or
        from beyond them.
      inside: the ranges of meta-training.
      outside: those beyond.

    Returns:
      The family, with collisions, comfort and speed as its measures.

    Raises:
      ValueError: if a count is below 1 or the name unknown.
    """
    check_positive(horizon=horizon)
    check_at_least(1, num_vehicles=num_vehicles)
    check_choice(("inside", "outside"), heldout=heldout)
    env = Driving(num_vehicles=num_vehicles)
    beyond = inside if heldout == "inside" else outside
    return gymnax_family(
        env,
        lambda key: draw_task(key, inside, num_vehicles),
        sample_heldout_params=lambda key: draw_task(key, beyond, num_vehicles),
        horizon=horizon,
        oracles={"lane keeper": oracle(env, horizon)},
        measures=MEASURES,
        # What a reset draws is where vehicles begin, and steps change all of it; to
        # find that out costs more than all the rest.
        allow_resampling=True,
    )

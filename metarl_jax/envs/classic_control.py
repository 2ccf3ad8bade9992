"""The classic control problems with physics drawn for every task.

The task is what the paper on generalisation by Packer et al. 2018 (arXiv 1810.12282)
varies, in its ranges of moderate variation; further constants can be given a range.
The observations are gymnax's own, positions and velocities: the physics shows only in
how they change. Held-out tasks are new draws from the same ranges; to test beyond
them, evaluate on a family built with others. No optimum is known in closed form, so
there are no oracles.

A range is a pair `(low, high)`, uniform between the two; equal ends fix the value.
"""

import dataclasses

import jax
import jax.numpy as jnp
from gymnax.environments.classic_control import (
    Acrobot,
    CartPole,
    MountainCar,
    Pendulum,
)

from metarl_jax.envs.gymnax_family import gymnax_family
from metarl_jax.envs.ranges import Range, uniform
from metarl_jax.types import TaskDistribution
from metarl_jax.validation import check_fraction, check_positive


def cartpole(
    *,
    horizon: int = 200,
    force_mag: Range = (5.0, 15.0),
    length: Range = (0.25, 0.75),
    masspole: Range = (0.05, 0.5),
    masscart: Range = (1.0, 1.0),
    gravity: Range = (9.8, 9.8),
    crossed_wires: float = 0.0,
) -> TaskDistribution:
    """Builds CartPole with a drawn push, pole and cart.

    The reward is 1 a step until the pole falls or the cart leaves the track, so a
    return is at most the horizon.

    One policy balances all of the default ranges. Where wires may be crossed none can
    without learning which way they are: a feedback that balances one half of the tasks
    topples the other.

    Args:
      horizon: T, steps in an episode.
      force_mag: the push's force in newtons.
      length: half the pole's length in metres.
      masspole: kilograms.
      masscart: kilograms.
      gravity: metres per second squared.
      crossed_wires: the probability that "left" pushes right and "right" left, a
        negative force in the task.

    Returns:
      The family.

    Raises:
      ValueError: if a range is not positive, finite and in order, `crossed_wires` is
        not in [0, 1], or the horizon is below 1.
    """
    check_fraction(crossed_wires=crossed_wires)
    check_positive(horizon=horizon)
    env = CartPole()
    draw = uniform(
        force_mag=force_mag,
        length=length,
        masspole=masspole,
        masscart=masscart,
        gravity=gravity,
    )

    def sample(key):
        key_physics, key_wires = jax.random.split(key)
        drawn = draw(key_physics)
        crossed = jax.random.bernoulli(key_wires, 1.0 * crossed_wires)
        drawn["force_mag"] *= jnp.where(crossed, -1.0, 1.0)
        # The dynamics read these two as well as what they are made of.
        return dataclasses.replace(
            env.default_params,
            **drawn,
            total_mass=drawn["masscart"] + drawn["masspole"],
            polemass_length=drawn["masspole"] * drawn["length"],
        )

    return gymnax_family(env, sample, horizon=horizon)


def pendulum(
    *,
    horizon: int = 200,
    length: Range = (0.75, 1.25),
    mass: Range = (0.75, 1.25),
    gravity: Range = (10.0, 10.0),
    max_torque: Range = (2.0, 2.0),
) -> TaskDistribution:
    """Builds Pendulum with a drawn rod.

    The reward is -(θ² + 0.1 θ̇² + 0.001 u²), θ from upright; actions `[1]` are torques,
    clipped at `max_torque`.

    Args:
      horizon: T, steps in an episode.
      length: metres.
      mass: kilograms.
      gravity: metres per second squared.
      max_torque: newton metres.

    Returns:
      The family.

    Raises:
      ValueError: if a range is not positive, finite and in order, or the horizon is
        below 1.
    """
    check_positive(horizon=horizon)
    env = Pendulum()
    draw = uniform(length=length, mass=mass, gravity=gravity, max_torque=max_torque)

    def sample(key):
        drawn = draw(key)
        return dataclasses.replace(
            env.default_params,
            l=drawn["length"],
            m=drawn["mass"],
            g=drawn["gravity"],
            max_torque=drawn["max_torque"],
        )

    return gymnax_family(env, sample, horizon=horizon)


def acrobot(
    *,
    horizon: int = 500,
    link_length: Range = (0.75, 1.25),
    link_mass: Range = (0.75, 1.25),
    link_moi: Range = (0.75, 1.25),
) -> TaskDistribution:
    """Builds Acrobot with drawn links.

    As in the paper both links share one length, one mass and one moment of inertia;
    here the centres of mass stay in the links' middles as the length changes. The
    reward is -1 a step until the tip is one link above the pivot.

    Args:
      horizon: T, steps in an episode.
      link_length: metres.
      link_mass: kilograms.
      link_moi: kilogram metres squared.

    Returns:
      The family.

    Raises:
      ValueError: if a range is not positive, finite and in order, or the horizon is
        below 1.
    """
    check_positive(horizon=horizon)
    env = Acrobot()
    draw = uniform(link_length=link_length, link_mass=link_mass, link_moi=link_moi)

    def sample(key):
        drawn = draw(key)
        length, mass = drawn["link_length"], drawn["link_mass"]
        return dataclasses.replace(
            env.default_params,
            link_length_1=length,
            link_length_2=length,
            link_com_pos_1=0.5 * length,
            link_com_pos_2=0.5 * length,
            link_mass_1=mass,
            link_mass_2=mass,
            link_moi=drawn["link_moi"],
        )

    return gymnax_family(env, sample, horizon=horizon)


def mountain_car(
    *,
    horizon: int = 200,
    force: Range = (0.0005, 0.005),
    gravity: Range = (0.001, 0.005),
) -> TaskDistribution:
    """Builds MountainCar with a drawn engine and slope.

    The reward is -1 a step until the car is at the top.

    Args:
      horizon: T, steps in an episode.
      force: what the engine adds to the velocity in a step.
      gravity: what the steepest slope takes from it; the paper calls it mass.

    Returns:
      The family.

    Raises:
      ValueError: if a range is not positive, finite and in order, or the horizon is
        below 1.
    """
    check_positive(horizon=horizon)
    env = MountainCar()
    draw = uniform(force=force, gravity=gravity)

    def sample(key):
        return dataclasses.replace(env.default_params, **draw(key))

    return gymnax_family(env, sample, horizon=horizon)

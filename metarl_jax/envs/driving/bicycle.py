"""The kinematic bicycle: a car whose two axles are a wheel each, held by friction.

With the steering angle δ, the wheelbase L and the rear axle at l behind the centre of
mass, the centre moves at an angle β to the car's axis and its path is curved by κ
(Rajamani 2012, section 2.2; Kong et al. 2015):

    tan β = l tan δ / L,   κ = sin β / l = cos β tan δ / L,   ψ' = v κ.

Tyres bear a total acceleration of μ g (Kamm's circle). Turning comes first: v² |κ| is
at most μ g, a car that steers more goes straight on; braking gets what is left.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

GRAVITY = 9.81  # metres per second squared


class Car(NamedTuple):
    """What decides how a car answers."""

    wheelbase: jax.Array  # [] L, metres
    friction: jax.Array  # [] μ
    rear_share: float = 0.5  # l / L


class Motion(NamedTuple):
    """What a car did in a step, in its own axes at the step's beginning."""

    forwards: jax.Array  # [] metres
    leftwards: jax.Array  # [] metres
    turn: jax.Array  # [] radians, anticlockwise
    speed: jax.Array  # [] metres per second, at the end
    acceleration: jax.Array  # [] along, metres per second squared
    lateral: jax.Array  # [] v² κ, metres per second squared


def move(
    speed: jax.Array,
    steering: jax.Array,
    acceleration: jax.Array,
    car: Car,
    *,
    seconds: float,
) -> Motion:
    """Moves a car along an arc.

    Args:
      speed: `[]` v, not negative.
      steering: `[]` δ, radians, anticlockwise.
      acceleration: `[]` that is asked for.
      car: what answers.
      seconds: how long.

    Returns:
      The motion: of constant curvature and acceleration, no faster backwards than 0.
    """
    rear = car.rear_share * car.wheelbase
    grip = car.friction * GRAVITY
    wanted = jnp.sin(jnp.arctan(car.rear_share * jnp.tan(steering))) / rear
    most = grip / jnp.maximum(jnp.square(speed), 1e-6)
    curvature = jnp.clip(wanted, -most, most)
    lateral = jnp.square(speed) * curvature
    left = jnp.sqrt(jnp.maximum(jnp.square(grip) - jnp.square(lateral), 0.0))
    acceleration = jnp.clip(acceleration, -left, left)
    end = jnp.maximum(speed + acceleration * seconds, 0.0)
    distance = (speed + end) / 2 * seconds
    turn = curvature * distance
    # The chord of the arc, seen from the car's axis.
    chord = distance * jnp.sinc(turn / (2 * jnp.pi))
    towards = jnp.arcsin(rear * curvature) + turn / 2
    return Motion(
        forwards=chord * jnp.cos(towards),
        leftwards=chord * jnp.sin(towards),
        turn=turn,
        speed=end,
        acceleration=(end - speed) / seconds,
        lateral=lateral,
    )


def turning_radius(steering: jax.Array, car: Car) -> jax.Array:
    """Computes the radius of the centre's circle, √(l² + (L / tan δ)²), metres.

    Args:
      steering: `[]` δ, radians, not 0.
      car: its friction is not looked at.
    """
    rear = car.rear_share * car.wheelbase
    return jnp.hypot(rear, car.wheelbase / jnp.tan(steering))

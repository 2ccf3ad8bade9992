"""How others drive: the intelligent driver model along, MOBIL across.

IDM (Treiber, Hennecke and Helbing 2000), for a speed v, a gap s to whoever is ahead and
the speed Δv at which it closes:

    a = A (1 - (v / v₀)⁴ - (s* / s)²),   s* = s₀ + max(0, v T + v Δv / (2 √(A B))).

MOBIL (Kesting, Treiber and Helbing 2007): a lane is changed if the new follower n would
not brake by more than b, and if what the driver c gains outweighs what others lose,

    ã_n ≥ -b,   ã_c - a_c + p (ã_n - a_n + ã_o - a_o) > Δa,

with o who followed so far, and ã the accelerations after the change. Vehicles drive
round a ring, so that their density stays what it is; they decide in turns.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.envs.driving.road import LANE

LENGTH = 4.8  # metres, of every vehicle
WIDTH = 1.9
ACROSS = 1.0  # metres per second, in a change of lanes
HARDEST = 9.0  # metres per second squared that a driver can brake


class Driver(NamedTuple):
    """How somebody drives."""

    headway: jax.Array  # [] T, seconds
    acceleration: jax.Array  # [] A, metres per second squared
    braking: jax.Array  # [] B, that is comfortable
    politeness: jax.Array  # [] p
    threshold: jax.Array  # [] Δa
    safe: jax.Array  # [] b, that others may be made to brake
    gap: float = 2.0  # s₀, metres


class Vehicles(NamedTuple):
    """Where vehicles are; `[V]` each."""

    along: jax.Array  # metres, of the middle
    offset: jax.Array  # metres to the left of the first lane's middle
    lane: jax.Array  # int32, that it is in or changes to
    speed: jax.Array  # metres per second


def driver(aggressiveness: jax.Array) -> Driver:
    """Interpolates between a careful driver, 0, and an aggressive one, 1.

    Args:
      aggressiveness: `[]`; above 1 it goes on in a straight line.
    """

    def between(careful, aggressive):
        return careful + (aggressive - careful) * aggressiveness

    return Driver(
        headway=between(2.0, 0.8),
        acceleration=between(0.8, 2.0),
        braking=between(1.5, 3.0),
        politeness=jnp.maximum(between(0.5, 0.0), 0.0),
        threshold=jnp.maximum(between(0.3, 0.1), 0.0),
        safe=between(2.0, 4.0),
    )


def idm(
    speed: jax.Array,
    desired: jax.Array,
    gap: jax.Array,
    ahead: jax.Array,
    who: Driver,
) -> jax.Array:
    """Computes the intelligent driver model's acceleration.

    Args:
      speed: `[...]` v.
      desired: `[...]` v₀.
      gap: `[...]` s, from bumper to bumper; at most 0 where they touch.
      ahead: `[...]` speed of whoever is ahead.
      who: drives.

    Returns:
      `[...]` metres per second squared, no less than the hardest braking.
    """
    closing = speed - ahead
    comfortable = 2 * jnp.sqrt(who.acceleration * who.braking)
    dynamic = speed * who.headway + speed * closing / comfortable
    wanted = who.gap + jnp.maximum(dynamic, 0.0)
    free = 1 - (speed / desired) ** 4
    near = jnp.square(wanted / jnp.maximum(gap, 0.1))
    return jnp.maximum(who.acceleration * (free - near), -HARDEST)


def equilibrium_gap(speed: jax.Array, desired: jax.Array, who: Driver) -> jax.Array:
    """Computes the gap at which IDM keeps its speed, (s₀ + v T) / √(1 - (v / v₀)⁴)."""
    return (who.gap + speed * who.headway) / jnp.sqrt(1 - (speed / desired) ** 4)


def changes(
    own: tuple[jax.Array, jax.Array],
    new: tuple[jax.Array, jax.Array],
    old: tuple[jax.Array, jax.Array],
    who: Driver,
) -> tuple[jax.Array, jax.Array]:
    """Computes MOBIL's two criteria.

    Args:
      own: accelerations of who decides, `[...]` now and after the change.
      new: those of who would follow.
      old: those of who follows so far.
      who: decides.

    Returns:
      Whether it is safe, and by how much the gain is above the threshold.
    """
    safe = new[1] >= -who.safe
    others = new[1] - new[0] + old[1] - old[0]
    return safe, own[1] - own[0] + who.politeness * others - who.threshold


def occupied(vehicles: Vehicles, num_lanes: int) -> jax.Array:
    """Tells which lanes vehicles are in, or about to be in, `[V, lanes]`."""
    lanes = jnp.arange(num_lanes)
    apart = jnp.abs(vehicles.offset[:, None] - LANE * lanes)
    return (apart < (LANE + WIDTH) / 2 - 0.2) | (vehicles.lane[:, None] == lanes)


def distances(vehicles: Vehicles, ring: jax.Array) -> jax.Array:
    """Returns how far ahead of i along the ring j is, in [0, ring), `[V, V]`."""
    return (vehicles.along - vehicles.along[:, None]) % ring


def nearest(distance: jax.Array, among: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Finds the least distance, `[..., V]` to `[...]`, and whose it is.

    Returns:
      Its index, and the gap between bumpers: infinite where there is nobody.
    """
    distance = jnp.where(among, distance, jnp.inf)
    index = jnp.argmin(distance, axis=-1)
    return index, jnp.min(distance, axis=-1) - LENGTH


def accelerations(
    vehicles: Vehicles, desired: jax.Array, ring: jax.Array, num_lanes: int, who: Driver
) -> jax.Array:
    """Computes everybody's acceleration behind whoever is ahead in its lanes.

    Args:
      vehicles: `[V]`.
      desired: `[V]` speeds.
      ring: `[]` its length, metres.
      num_lanes: of the road.
      who: all of them.

    Returns:
      `[V]`.
    """
    lanes = occupied(vehicles, num_lanes)
    shared = jnp.any(lanes[:, None] & lanes, axis=-1)
    others = ~jnp.eye(len(desired), dtype=bool)
    leader, gap = nearest(distances(vehicles, ring), shared & others)
    return idm(vehicles.speed, desired, gap, vehicles.speed[leader], who)


def choose_lane(
    index: jax.Array,
    vehicles: Vehicles,
    desired: jax.Array,
    ring: jax.Array,
    num_lanes: int,
    who: Driver,
) -> jax.Array:
    """Decides by MOBIL which lane a vehicle is in next.

    Args:
      index: `[]` who decides.
      vehicles: `[V]`.
      desired: `[V]` speeds.
      ring: `[]` its length.
      num_lanes: of the road.
      who: all of them.

    Returns:
      `[]` int32, the lane; its own where it changes lanes already.
    """
    lanes = occupied(vehicles, num_lanes).T  # [lanes, V]
    ahead = (vehicles.along - vehicles.along[index]) % ring  # [V]
    others = jnp.arange(len(desired)) != index
    leader, front = nearest(ahead, lanes & others)  # [lanes]
    # From behind, those at the same place are as near as can be.
    follower, back = nearest((ring - ahead) % ring, lanes & others)
    speed, wish = vehicles.speed, desired
    between = front + back + LENGTH

    def follows(i, gap, j):
        return idm(speed[i], wish[i], gap, speed[j], who)

    alone = follows(index, front, leader)  # [lanes], of who decides, in each
    without = follows(follower, between, leader)
    behind = follows(follower, back, index)
    own = vehicles.lane[index]
    safe, gain = changes(
        (alone[own], alone), (without, behind), (behind[own], without[own]), who
    )
    reachable = jnp.abs(jnp.arange(num_lanes) - own) == 1
    settled = jnp.abs(vehicles.offset[index] - LANE * own) < 0.1
    room = (front > 0) & (back > 0)
    gain = jnp.where(safe & room & reachable & settled, gain, -jnp.inf)
    best = jnp.argmax(gain).astype(jnp.int32)
    return jnp.where(gain[best] > 0, best, own)


def drive(vehicles: Vehicles, acceleration: jax.Array, *, seconds: float) -> Vehicles:
    """Moves vehicles along, and across towards the lane they are to be in."""
    end = jnp.maximum(vehicles.speed + acceleration * seconds, 0.0)
    aside = LANE * vehicles.lane.astype(jnp.float32) - vehicles.offset
    most = ACROSS * seconds
    return vehicles._replace(
        along=vehicles.along + (vehicles.speed + end) / 2 * seconds,
        offset=vehicles.offset + jnp.clip(aside, -most, most),
        speed=end,
    )

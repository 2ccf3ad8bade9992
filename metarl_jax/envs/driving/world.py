"""The driving task: keep to the road, get on, touch nobody; the car is unknown.

A step is 0.2 s. An action is (steering, pedal) in [-1, 1]²: a steering angle of up to
0.04 radians, which the wheels have τ seconds later, and an acceleration of up to
3 m/s² or a braking of up to 8 m/s² of the empty car, divided by its load. The reward of
a step is

    v̂ / 30 - 0.2 (e / 1.75)² - 0.02 (|a| + |v² κ|) / g,

with the speed v̂ along the road, counted downwards above 30 m/s, and the distance e to
the nearest lane's middle; a collision, or the car's middle off the road, ends the
episode with -20. Bodies are rectangles along the road.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from metarl_jax.envs.driving import bicycle, road, traffic
from metarl_jax.envs.driving.traffic import LENGTH, WIDTH, Vehicles

SECONDS = 0.2
STEERING = 0.04  # radians
THROTTLE, BRAKE = 3.0, 8.0  # metres per second squared, empty
LIMIT = 30.0  # metres per second
START = 20.0
NUM_LANES = 3
NUM_KNOTS = 12
BENT = 0.006  # 1 / metre, the road's greatest curvature
NUM_COMMANDS = 4  # steering angles that may still be on their way
SIGHT = 60.0  # metres
LOOK = (0.0, 20.0, 45.0)  # metres ahead, where the curvature is seen


@struct.dataclass(kw_only=True)
class EnvState(environment.EnvState):
    """What time changes; the first vehicle is one's own."""

    vehicles: Vehicles  # [V + 1]
    heading: jax.Array  # [] radians, against the road's direction
    commands: jax.Array  # [NUM_COMMANDS] steering angles, the newest first
    acceleration: jax.Array  # [] metres per second squared, along
    lateral: jax.Array  # [] metres per second squared, across


@struct.dataclass(kw_only=True)
class EnvParams(environment.EnvParams):
    """The task."""

    friction: jax.Array  # []
    wheelbase: jax.Array  # []
    steering_delay: jax.Array  # []
    load: jax.Array  # []
    density: jax.Array  # []
    aggressiveness: jax.Array  # []
    desired: jax.Array  # [V] speeds of the others
    curvature: jax.Array  # [NUM_KNOTS] of the road


# Compiled with what calls it; traced once, whatever calls it.
traced_once = functools.partial(jax.jit, static_argnums=0)


class Driving(environment.Environment[EnvState, EnvParams]):
    """The road; see the module.

    Args:
      num_vehicles: V, of others.
    """

    def __init__(self, *, num_vehicles: int):
        super().__init__()
        self.num_vehicles = num_vehicles

    def ring(self, params):
        """Returns the length of road after which the same vehicles come again."""
        return self.num_vehicles / params.density

    @traced_once
    def reset_env(self, key, params):  # pyright: ignore
        """Starts in a lane's middle at 20 m/s, the others spread over the ring."""
        key_along, key_lane = jax.random.split(key)
        num = self.num_vehicles + 1
        apart = self.ring(params) / num
        jitter = jax.random.uniform(key_along, (num - 1,), minval=-0.25, maxval=0.25)
        lane = jax.random.randint(key_lane, (num,), 0, NUM_LANES, jnp.int32)
        vehicles = Vehicles(
            along=apart * (jnp.arange(num) + jnp.append(0.0, jitter)),
            offset=road.LANE * lane.astype(float),
            lane=lane,
            speed=jnp.append(START, 0.9 * params.desired),
        )
        state = EnvState(
            time=0,
            vehicles=vehicles,
            heading=jnp.zeros(()),
            commands=jnp.zeros(NUM_COMMANDS),
            acceleration=jnp.zeros(()),
            lateral=jnp.zeros(()),
        )
        return self.shown(state, params), state

    @traced_once
    def step_env(self, key, state, action, params):  # pyright: ignore
        """Moves everybody for a step."""
        del key
        before = state.vehicles
        others = self._others(state, params)
        car, motion, bend = self._own(state, action, params)
        along, offset = road.advance(bend, before.offset[0], *car)
        lane = jnp.clip(jnp.round(offset / road.LANE), 0, NUM_LANES - 1)
        vehicles = Vehicles(
            along=others.along.at[0].set(before.along[0] + along),
            offset=others.offset.at[0].set(offset),
            lane=others.lane.at[0].set(lane.astype(jnp.int32)),
            speed=others.speed.at[0].set(motion.speed),
        )
        steering = STEERING * jnp.asarray(action)[0]
        state = EnvState(
            time=state.time + 1,
            vehicles=vehicles,
            heading=state.heading + motion.turn - bend * along,
            commands=jnp.append(steering, state.commands[:-1]),
            acceleration=motion.acceleration,
            lateral=motion.lateral,
        )
        over = self.collided(before, vehicles, params) | off_road(state)
        speed = along / SECONDS
        middle = offset - road.LANE * lane
        effort = (jnp.abs(motion.acceleration) + jnp.abs(motion.lateral)) / 9.81
        reward = (
            jnp.minimum(speed, 2 * LIMIT - speed) / LIMIT
            - 0.2 * jnp.square(middle / (road.LANE / 2))
            - 0.02 * effort
            - 20.0 * over
        )
        return self.shown(state, params), state, reward, over, {}

    def _own(self, state, action, params):
        """Moves one's own car: (forwards, leftwards) on the road, motion, curvature."""
        speed = state.vehicles.speed[0]
        commands = jnp.append(STEERING * action[0], state.commands)
        # The mean over the step of what was asked for a delay ago.
        late = params.steering_delay / SECONDS
        weights = jnp.maximum(1 - jnp.abs(jnp.arange(len(commands)) - late), 0.0)
        pedal = action[1]
        asked = jnp.where(pedal > 0, THROTTLE, BRAKE) * pedal / params.load
        car = bicycle.Car(params.wheelbase, params.friction)
        motion = bicycle.move(speed, weights @ commands, asked, car, seconds=SECONDS)
        bend = road.curvature_at(params.curvature, state.vehicles.along[0])
        c, s = jnp.cos(state.heading), jnp.sin(state.heading)
        forwards = c * motion.forwards - s * motion.leftwards
        leftwards = s * motion.forwards + c * motion.leftwards
        return (forwards, leftwards), motion, bend

    def _others(self, state, params):
        """Lets one of the others choose its lane, and all of them drive."""
        vehicles, ring = state.vehicles, self.ring(params)
        who = traffic.driver(params.aggressiveness)
        desired = jnp.append(LIMIT, params.desired)
        turn = 1 + state.time % self.num_vehicles
        lane = traffic.choose_lane(turn, vehicles, desired, ring, NUM_LANES, who)
        vehicles = vehicles._replace(lane=vehicles.lane.at[turn].set(lane))
        acceleration = traffic.accelerations(vehicles, desired, ring, NUM_LANES, who)
        return traffic.drive(vehicles, acceleration, seconds=SECONDS)

    def collided(self, before, after, params):
        """Tells whether one's own body met another in a step, passing it included."""
        first, last = self.ahead(before, params), self.ahead(after, params)
        # Who comes up ahead having fallen half the ring behind has passed nobody.
        last = jnp.where(jnp.abs(last - first) < self.ring(params) / 2, last, first)
        apart = jnp.minimum(jnp.abs(first), jnp.abs(last))
        apart = jnp.where(first * last < 0, 0.0, apart)
        aside = jnp.abs(after.offset[1:] - after.offset[0])
        return jnp.any((apart < LENGTH) & (aside < WIDTH))

    def ahead(self, vehicles, params):
        """Returns how far ahead the others are, in [-ring / 2, ring / 2), `[V]`."""
        ring = self.ring(params)
        return (vehicles.along[1:] - vehicles.along[0] + ring / 2) % ring - ring / 2

    def shown(self, state, params):
        """Returns what a driver sees, `[25]`; `seen` reads it."""
        vehicles = state.vehicles
        offset, speed = vehicles.offset[0], vehicles.speed[0]
        ahead = self.ahead(vehicles, params)
        aside = vehicles.offset[1:] - offset
        gaps, closing = [], []
        for low, high in ((-1.6, -0.6), (-0.6, 0.6), (0.6, 1.6)):
            beside = (aside >= low * road.LANE) & (aside < high * road.LANE)
            for distance in (ahead, -ahead):
                index, gap = traffic.nearest(distance, beside & (distance > 0))
                near = gap < SIGHT
                gaps.append(jnp.clip(gap, 0.0, SIGHT) / SIGHT)
                faster = speed - vehicles.speed[1:][index]
                closing.append(jnp.where(near, faster / 10, 0.0))
        look = vehicles.along[0] + jnp.asarray(LOOK)
        edge = (NUM_LANES - 0.5) * road.LANE
        own = [
            speed / LIMIT,
            10 * state.heading,
            (offset + road.LANE / 2) / road.LANE,
            (edge - offset) / road.LANE,
            jnp.sin(2 * jnp.pi * offset / road.LANE),
            state.acceleration / 5,
            state.lateral / 5,
        ]
        bends = road.curvature_at(params.curvature, look) / BENT
        # All but the oldest, which no wheel will have any more.
        commands = state.commands[:-1] / STEERING
        parts = [jnp.stack(own), bends, commands, jnp.stack([*gaps, *closing])]
        return jnp.concatenate(parts).astype(jnp.float32)

    def is_terminated(self, state, params):
        """Tells of the road alone: a collision is a matter of two moments."""
        del params
        return off_road(state)

    @property
    def name(self) -> str:
        """Environment name."""
        return "Driving"

    @property
    def num_actions(self) -> int:
        """Steering and pedal."""
        return 2

    def action_space(self, params=None):
        """Steering, to the left, and pedal."""
        del params
        return spaces.Box(-1.0, 1.0, (2,))

    def observation_space(self, params):
        """Unbounded."""
        del params
        return spaces.Box(-np.inf, np.inf, (25,))


def off_road(state: EnvState) -> jax.Array:
    """Tells whether the car's middle is off the road, or it stands across."""
    offset = state.vehicles.offset[0]
    outside = (offset < -road.LANE / 2) | (offset > (NUM_LANES - 0.5) * road.LANE)
    return outside | (jnp.abs(state.heading) > jnp.pi / 2)


class Seen(NamedTuple):
    """An observation in the units of the world."""

    speed: jax.Array  # metres per second
    heading: jax.Array  # radians against the road
    right: jax.Array  # metres from the car's middle to the road's right edge
    left: jax.Array
    acceleration: jax.Array  # metres per second squared
    lateral: jax.Array
    gap: jax.Array  # metres to whoever is ahead in the lane, at most SIGHT
    closing: jax.Array  # metres per second; 0 where nobody is within sight


def seen(obs: jax.Array) -> Seen:
    """Reads an observation `[..., 25]`, or one with more behind it."""
    part = [obs[..., i] for i in range(25)]
    return Seen(
        speed=LIMIT * part[0],
        heading=part[1] / 10,
        right=road.LANE * part[2],
        left=road.LANE * part[3],
        acceleration=5 * part[5],
        lateral=5 * part[6],
        gap=SIGHT * part[15],
        closing=10 * part[21],
    )

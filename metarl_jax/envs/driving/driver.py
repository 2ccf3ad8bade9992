"""A driver that knows the car and the road, keeps its lane and follows by IDM.

On a path of curvature κ a car's distance e to its lane obeys e'' = κ - κ_road, the
derivative by the length of the way: κ = κ_road - e / ℓ² - 2 ψ / ℓ brings it back over
ℓ metres, critically damped.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from metarl_jax.envs.driving import bicycle, road, traffic, world
from metarl_jax.types import Key

OVER = 40.0  # ℓ, metres
CARE = 0.7  # of the friction that a curve may take


def act(env: world.Driving, state: world.EnvState, task: world.EnvParams) -> jax.Array:
    """Chooses an action, `[2]`, by the state and the task.

    Args:
      env: the road.
      state: of it.
      task: known.
    """
    vehicles = state.vehicles
    speed, offset = vehicles.speed[0], vehicles.offset[0]
    # What is asked for now is what the wheels have a delay later.
    later = speed * (task.steering_delay + world.SECONDS / 2)
    bend = road.curvature_at(task.curvature, vehicles.along[0] + later)
    aside = offset - road.LANE * vehicles.lane[0].astype(jnp.float32)
    wanted = bend - aside / OVER**2 - 2 * state.heading / OVER
    steering = jnp.arctan(task.wheelbase * wanted)
    near = vehicles.along[0] + jnp.linspace(0.0, 80.0, 5)
    sharpest = jnp.max(jnp.abs(road.curvature_at(task.curvature, near)))
    grip = CARE * task.friction * bicycle.GRAVITY
    safe = jnp.sqrt(grip / jnp.maximum(sharpest, 1e-4))
    desired = jnp.append(jnp.minimum(world.LIMIT, safe), task.desired)
    acceleration = traffic.accelerations(
        vehicles,
        desired,
        env.ring(task),
        world.NUM_LANES,
        traffic.driver(jnp.asarray(0.5)),
    )[0]
    full = jnp.where(acceleration > 0, world.THROTTLE, world.BRAKE) / task.load
    return jnp.clip(
        jnp.stack([steering / world.STEERING, acceleration / full]), -1.0, 1.0
    )


def oracle(
    env: world.Driving, horizon: int
) -> Callable[[Key, world.EnvParams], jax.Array]:
    """Makes the return of one episode of this driver.

    Args:
      env: the road.
      horizon: T.
    """

    def one_return(key, task):
        def step(carry, _):
            state, alive = carry
            action = act(env, state, task)
            _, state, reward, over, _ = env.step_env(key, state, action, task)
            return (state, alive & ~over), jnp.where(alive, reward, 0.0)

        _, state = env.reset_env(key, task)
        state = jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x)), state)
        start = (state, jnp.asarray(True))
        return jnp.sum(jax.lax.scan(step, start, length=horizon)[1])

    return one_return

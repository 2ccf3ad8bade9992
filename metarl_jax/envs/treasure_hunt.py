"""A treasure on a circle, seen from a mountain (Zintgraf et al. 2021)."""

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from metarl_jax.envs.gymnax_family import gymnax_family
from metarl_jax.types import TaskDistribution
from metarl_jax.validation import check_above_zero, check_not_negative, check_positive

START = (0.0, -1.0)
MAX_STEP = 0.1
MOUNTAIN_RADIUS = 0.5
# How near the top one sees the treasure, and how near the treasure one has it.
NEAR = 0.1
_EDGE = 1.5


@struct.dataclass(kw_only=True)
class EnvState(environment.EnvState):
    """What time changes."""

    position: jax.Array  # [2]


@struct.dataclass(kw_only=True)
class EnvParams(environment.EnvParams):
    """The task."""

    goal: jax.Array  # [2]


class TreasureHunt(environment.Environment[EnvState, EnvParams]):
    """A point that looks for a treasure; see `treasure_hunt`."""

    def __init__(self, *, treasure: float, cost: float, height: float):
        super().__init__()
        self.treasure = treasure
        self.cost = cost
        self.height = height

    def reset_env(self, key, params):
        """Returns to the start."""
        del key
        state = EnvState(time=0, position=jnp.array(START))
        return self._observe(state, params), state

    def step_env(self, key, state, action, params):
        """Moves the point; the reward is of the position after the move."""
        del key
        position = state.position + MAX_STEP * jnp.clip(action, -1.0, 1.0)
        position = jnp.clip(position, -_EDGE, _EDGE)
        state = EnvState(time=state.time + 1, position=position)
        reward = self.reward(position, params.goal)
        terminated = self.is_terminated(state, params)
        return self._observe(state, params), state, reward, terminated, {}

    def reward(self, position: jax.Array, goal: jax.Array) -> jax.Array:
        """Returns what it pays to be at a position `[2]`."""
        distance = jnp.linalg.norm(position)
        climbing = self.height * (distance - MOUNTAIN_RADIUS) - self.cost
        elsewhere = jnp.where(
            jnp.linalg.norm(position - goal) <= NEAR,
            self.treasure,
            -self.cost * jnp.maximum(distance, 1.0),
        )
        return jnp.where(distance <= MOUNTAIN_RADIUS, climbing, elsewhere)

    def _observe(self, state, params):
        on_top = jnp.linalg.norm(state.position) < NEAR
        return jnp.append(state.position, jnp.where(on_top, params.goal, 0.0))

    def is_terminated(self, state, params):
        """Returns False: only the horizon ends an episode."""
        del state, params
        return jnp.asarray(False)

    @property
    def name(self) -> str:
        """Environment name."""
        return "TreasureHunt"

    @property
    def num_actions(self) -> int:
        """Dimensions of an action."""
        return 2

    def action_space(self, params=None):
        """Actions beyond the bounds are clipped."""
        del params
        return spaces.Box(-1.0, 1.0, (2,))

    def observation_space(self, params):
        """The position, and where the treasure is or zeros."""
        del params
        return spaces.Box(-_EDGE, _EDGE, (4,))


def treasure_hunt(
    *,
    horizon: int = 100,
    treasure: float = 10.0,
    cost: float = 5.0,
    height: float = 1.0,
) -> TaskDistribution:
    """Builds `TreasureHunt` of Zintgraf et al. 2021, arXiv 2010.01062, section 6.

    s_{t+1} = clip(s_t + 0.1 a_t, ±1.5) from s_0 = (0, -1). The treasure g is uniform on
    the unit circle, and after its move an agent gets

        h (|s| - 0.5) - c   on the mountain, |s| ≤ 0.5,
        R                   where |s - g| ≤ 0.1,
        -c max(1, |s|)      elsewhere.

    It sees s and, where |s| < 0.1, g; zeros in its place elsewhere. So the way to the
    top costs more than any other and pays only by what is seen there. These are the
    numbers of the paper's environment; the authors' class has by itself R = c = 1. Only
    the horizon ends an episode; held-out tasks are new draws.

    The oracle `"known goal"` is exact: nobody is there before every step has gone 0.1
    along both axes, a step before that costs c or more, and there is a way around the
    mountain within the circle on which each costs c. `"climbs first"` is a script, not
    an optimum: to the top, and from there straight to what is seen.

    Args:
      horizon: T, time limit of an episode in steps.
      treasure: R, reward of a step at the treasure.
      cost: c, of every other step.
      height: h, how much more the mountain's top costs, by its radius.

    Returns:
      The family.

    Raises:
      ValueError: if the horizon is below 1, R is not above 0 or c or h below it.
    """
    check_positive(horizon=horizon)
    check_above_zero(treasure=treasure)
    check_not_negative(cost=cost, height=height)
    env = TreasureHunt(treasure=treasure, cost=cost, height=height)

    def sample(key):
        angle = jax.random.uniform(key, maxval=2 * jnp.pi)
        return EnvParams(goal=jnp.stack([jnp.cos(angle), jnp.sin(angle)]))

    def known_goal(key, task):
        del key
        offset = jnp.abs(task.goal - jnp.array(START))
        moved = MAX_STEP * jnp.arange(1, horizon + 1, dtype=offset.dtype)[:, None]
        left = jnp.linalg.norm(jnp.maximum(offset - moved, 0.0), axis=-1)
        return jnp.sum(jnp.where(left <= NEAR, treasure, -cost))

    def climbs_first(key, task):
        del key

        def step(carry, _):
            position, seen = carry
            towards = jnp.where(seen, task.goal, 0.0)
            # Along the line to it: not as fast as can be.
            apart = towards - position
            size = jnp.maximum(jnp.max(jnp.abs(apart)), MAX_STEP)
            position = position + MAX_STEP * apart / size
            seen |= jnp.linalg.norm(position) < NEAR / 2  # rounding aside
            return (position, seen), env.reward(position, task.goal)

        start = jnp.array(START), jnp.zeros((), bool)
        return jnp.sum(jax.lax.scan(step, start, length=horizon)[1])

    return gymnax_family(
        env,
        sample,
        horizon=horizon,
        oracles={"known goal": known_goal, "climbs first": climbs_first},
        measures={"treasure found": _found},
    )


def _found(task, episode) -> jax.Array:
    """Tells whether the treasure was reached, 0 or 1."""
    apart = jnp.linalg.norm(episode.next_obs[..., :2] - task.goal, axis=-1)
    return jnp.any(episode.mask & (apart <= NEAR)).astype(jnp.float32)

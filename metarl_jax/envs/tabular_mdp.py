"""Random tabular Markov decision processes."""

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from metarl_jax.envs.gymnax_family import gymnax_family
from metarl_jax.types import TaskDistribution
from metarl_jax.validation import check_finite, check_not_negative, check_positive


@struct.dataclass(kw_only=True)
class EnvState(environment.EnvState):
    """What time changes."""

    position: jax.Array  # [] int32, the state s of the MDP


@struct.dataclass(kw_only=True)
class EnvParams(environment.EnvParams):
    """The task."""

    transition: jax.Array  # [S, A, S], P(s' | s, a)
    mean_reward: jax.Array  # [S, A]


class TabularMDP(environment.Environment[EnvState, EnvParams]):
    """An MDP given by its tables.

    Starts in state 0; r ~ N(R(s, a), σ²), s' ~ P(· | s, a). The observation is the
    state, one-hot `[S]`.

    Args:
      num_states: S.
      num_actions: A.
      reward_noise_std: σ.
    """

    def __init__(self, *, num_states: int, num_actions: int, reward_noise_std: float):
        super().__init__()
        self.num_states = num_states
        self._num_actions = num_actions
        self.reward_noise_std = reward_noise_std

    def reset_env(self, key, params):
        """Returns to state 0."""
        del key, params
        state = EnvState(time=0, position=jnp.int32(0))
        return self._observe(state), state

    def step_env(self, key, state, action, params):
        """Draws the reward and the next state."""
        key_reward, key_transition = jax.random.split(key)
        reward = params.mean_reward[state.position, action]
        reward += self.reward_noise_std * jax.random.normal(key_reward)
        # The inverse of the cumulative distribution takes one random number where a
        # Gumbel maximum takes S. The last sum is left out: rounding may leave it below
        # 1, and the position would be out of range.
        cumulative = jnp.cumsum(params.transition[state.position, action])[:-1]
        uniform = jax.random.uniform(key_transition)
        position = jnp.sum(uniform >= cumulative, dtype=jnp.int32)
        state = EnvState(time=state.time + 1, position=position)
        terminated = self.is_terminated(state, params)
        return self._observe(state), state, reward, terminated, {}

    def _observe(self, state):
        return jax.nn.one_hot(state.position, self.num_states)

    def is_terminated(self, state, params):
        """Returns False: only the horizon ends an episode."""
        del state, params
        return jnp.asarray(False)

    @property
    def name(self) -> str:
        """Environment name."""
        return "TabularMDP"

    @property
    def num_actions(self) -> int:
        """Number of actions."""
        return self._num_actions

    def action_space(self, params=None):
        """The actions."""
        del params
        return spaces.Discrete(self._num_actions)

    def observation_space(self, params):
        """One-hot states."""
        del params
        return spaces.Box(0.0, 1.0, (self.num_states,))


def value_iteration(
    transition: jax.Array, mean_reward: jax.Array, *, horizon: int
) -> tuple[jax.Array, jax.Array]:
    """Solves a finite-horizon MDP by backward induction.

    Q_t(s, a) = R(s, a) + Σ_s' P(s' | s, a) max_a' Q_{t+1}(s', a'),  Q_T = 0.

    Args:
      transition: `[S, A, S]`.
      mean_reward: `[S, A]`.
      horizon: T.

    Returns:
      V_0 `[S]`, the best expected return from each state, and Q `[T, S, A]`.
    """

    def backup(value, _):
        q = mean_reward + transition @ value
        return jnp.max(q, axis=-1), q

    value, q = jax.lax.scan(
        backup, jnp.zeros(mean_reward.shape[0]), length=horizon, reverse=True
    )
    return value, q


def tabular_mdp(
    *,
    num_states: int = 10,
    num_actions: int = 5,
    horizon: int = 10,
    reward_mean: float = 1.0,
    reward_std: float = 1.0,
    reward_noise_std: float = 1.0,
) -> TaskDistribution:
    """Builds the random MDPs of Duan et al. 2016, arXiv 1611.02779 (Table 2).

    P(· | s, a) ~ Dirichlet(1, …, 1), R(s, a) ~ N(1, 1), r ~ N(R(s, a), 1). Held-out
    tasks are new draws.

    The oracle `"value iteration"` is the exact optimum of the known MDP, 21.8 on
    average. Uniform play gains 10.

    Args:
      num_states: S.
      num_actions: A.
      horizon: T, steps in an episode.
      reward_mean: mean of R(s, a).
      reward_std: standard deviation of R(s, a).
      reward_noise_std: standard deviation of a reward around R(s, a).

    Returns:
      The family.

    Raises:
      ValueError: if a count is below 1, or a standard deviation is negative.
    """
    check_positive(num_states=num_states, num_actions=num_actions, horizon=horizon)
    check_finite(reward_mean=reward_mean)
    check_not_negative(reward_std=reward_std, reward_noise_std=reward_noise_std)
    env = TabularMDP(
        num_states=num_states,
        num_actions=num_actions,
        reward_noise_std=reward_noise_std,
    )

    table = (num_states, num_actions)

    def sample(key):
        key_transition, key_reward = jax.random.split(key)
        # Normalised exponentials are Dirichlet(1, …, 1). Drawn flat: XLA takes seconds
        # to compile a batch of random arrays with several axes for a CPU.
        size = num_states * num_actions
        weight = jax.random.exponential(key_transition, (size * num_states,))
        weight = weight.reshape(*table, num_states)
        mean_reward = jax.random.normal(key_reward, (size,)).reshape(table)
        return EnvParams(
            transition=weight / jnp.sum(weight, axis=-1, keepdims=True),
            mean_reward=reward_mean + reward_std * mean_reward,
        )

    def optimum(key, task):
        del key
        value, _ = value_iteration(task.transition, task.mean_reward, horizon=horizon)
        return value[0]

    def expected_reward(task, steps):
        # What stands behind the state, such as the task, is not read.
        position = jnp.argmax(steps.obs[..., :num_states], axis=-1)
        return task.mean_reward[position, steps.action]

    family = gymnax_family(
        env, sample, horizon=horizon, oracles={"value iteration": optimum}
    )
    return family._replace(expected_reward=expected_reward)

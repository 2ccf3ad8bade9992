"""The two-step task: does a learner use what it knows of the transitions?"""

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from metarl_jax.envs.gymnax_family import gymnax_family
from metarl_jax.types import TaskDistribution
from metarl_jax.validation import check_fraction


@struct.dataclass(kw_only=True)
class EnvState(environment.EnvState):
    """What time changes."""

    stage: jax.Array  # [] int32: 0, and then 1 or 2, the second-stage state


@struct.dataclass(kw_only=True)
class EnvParams(environment.EnvParams):
    """The task."""

    good: jax.Array  # [] int32, the second-stage state that mostly pays: 1 or 2


class TwoStep(environment.Environment[EnvState, EnvParams]):
    """A choice, a second-stage state that it makes likely, and a reward there.

    In the first stage action a ∈ {0, 1} leads to second-stage state 1 + a with
    probability c and to the other with 1 - c. In the second stage, where actions change
    nothing, the reward is 1 with probability h in the good state and 1 - h in the
    other, and the episode ends. The observation is the state, one-hot `[3]`.

    Args:
      common: c.
      reward_probability: h.
    """

    def __init__(self, *, common: float, reward_probability: float):
        super().__init__()
        self.common = common
        self.reward_probability = reward_probability

    def reset_env(self, key, params):
        """Returns to the first stage."""
        del key, params
        state = EnvState(time=0, stage=jnp.int32(0))
        return self._observe(state), state

    def step_env(self, key, state, action, params):
        """Moves to the second stage, or pays."""
        uniform = jax.random.uniform(key)
        first = state.stage == 0
        likely = jnp.int32(action)
        reached = 1 + jnp.where(uniform < self.common, likely, 1 - likely)
        h = self.reward_probability
        pays = uniform < jnp.where(state.stage == params.good, h, 1.0 - h)
        reward = jnp.where(first | ~pays, 0.0, 1.0)
        stage = jnp.where(first, reached, state.stage).astype(jnp.int32)
        state = EnvState(time=state.time + 1, stage=stage)
        terminated = self.is_terminated(state, params)
        return self._observe(state), state, reward, terminated, {}

    def _observe(self, state):
        return jax.nn.one_hot(state.stage, 3)

    def is_terminated(self, state, params):
        """Returns whether the second stage's action was taken."""
        del params
        return jnp.asarray(state.time >= 2)

    @property
    def name(self) -> str:
        """Environment name."""
        return "TwoStep"

    @property
    def num_actions(self) -> int:
        """Number of actions."""
        return 2

    def action_space(self, params=None):
        """Two actions."""
        del params
        return spaces.Discrete(2)

    def observation_space(self, params):
        """One-hot states."""
        del params
        return spaces.Box(0.0, 1.0, (3,))


def two_step(
    *, common: float = 0.75, reward_probability: float = 0.9
) -> TaskDistribution:
    """Builds the two-step task of Wang et al. 2016, arXiv 1611.05763 (section 3.2.1).

    Either second-stage state is the good one with probability ½, throughout a trial;
    an episode is one run through both stages. Held-out tasks are new draws.

    The oracle `"known state"` always makes the good state likely: 0.7 an episode.
    Acting at random has 0.5; over a trial of 100 episodes a Bayes-optimal learner has
    69.6875 (`metarl_jax.strategies.bayes_optimal.two_step_optimum`).

    Args:
      common: c, the probability of an action's common transition.
      reward_probability: h, of a reward in the good state; 1 - h in the other.

    Returns:
      The family.

    Raises:
      ValueError: if a probability is not between 0 and 1.
    """
    check_fraction(common=common, reward_probability=reward_probability)
    env = TwoStep(common=common, reward_probability=reward_probability)

    def sample(key):
        return EnvParams(good=jax.random.randint(key, (), 1, 3))

    def known_state(key, task):
        del key, task
        c, h = common, reward_probability
        return jnp.maximum(c * h + (1 - c) * (1 - h), c * (1 - h) + (1 - c) * h)

    def expected_reward(task, steps):
        stage, h = jnp.argmax(steps.obs[..., :3], axis=-1), reward_probability
        return jnp.where(stage == 0, 0.0, jnp.where(stage == task.good, h, 1.0 - h))

    family = gymnax_family(env, sample, horizon=2, oracles={"known state": known_state})
    return family._replace(expected_reward=expected_reward)

"""Learners of the two-step task, and what tells them apart: when they stay.

Who knows the transitions does again what was rewarded where it came about as it mostly
does, and the other thing where it did not; who does not know them does again whatever
was rewarded (Daw et al. 2011, doi 10.1016/j.neuron.2011.02.027).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.distributions import Categorical
from metarl_jax.types import Trajectory


class BayesOptimalTwoStep(NamedTuple):
    """Makes the second-stage state likely that is probably the good one.

    A reward in the first of them and none in the second are evidence of the same
    strength for the first, so the balance of both decides, and nothing is gained by
    exploring (`metarl_jax.envs.two_step`, whose transitions the learner knows).
    """

    def init(self, key, memory, obs):
        """Returns no parameters."""
        del key, memory, obs
        return {}

    def initial_memory(self):
        """Returns a balance of 0."""
        return jnp.int32(0)

    def apply(self, params, memory, obs):
        """Chooses by the balance; the value is not estimated."""
        del params, obs
        action = jnp.where(memory >= 0, 0, 1)
        return Categorical(jnp.log(jax.nn.one_hot(action, 2))), jnp.zeros(()), memory

    def observe(self, memory, transition):
        """Counts the evidence of a second-stage step."""
        state = jnp.argmax(transition.obs)
        for_first = (state == 1) == (transition.reward > 0.5)
        return memory + jnp.where(state == 0, 0, jnp.where(for_first, 1, -1))


class Values(NamedTuple):
    """What a `ModelFreeTwoStep` remembers."""

    value: jax.Array  # [2] of the first stage's actions
    action: jax.Array  # [] int32, the one that was taken last


class ModelFreeTwoStep(NamedTuple):
    """Values of the first stage's actions, moved by the reward however it came about.

    Q(a) ← Q(a) + α (r - Q(a)) after an episode, from Q = ½, and π(a) ∝ exp(β Q(a)).

    Attributes:
      rate: α.
      inverse_temperature: β.
    """

    rate: float = 0.5
    inverse_temperature: float = 5.0

    def init(self, key, memory, obs):
        """Returns no parameters."""
        del key, memory, obs
        return {}

    def initial_memory(self):
        """Returns values of ½."""
        return Values(jnp.full(2, 0.5), jnp.int32(0))

    def apply(self, params, memory, obs):
        """Chooses by the values; that of the state is not estimated."""
        del params, obs
        logits = self.inverse_temperature * memory.value
        return Categorical(logits), jnp.zeros(()), memory

    def observe(self, memory, transition):
        """Remembers the first stage's action, and moves its value after the second."""
        first = transition.obs[0] > 0.5
        error = transition.reward - memory.value[memory.action]
        moved = memory.value.at[memory.action].add(self.rate * error)
        action = jnp.where(first, transition.action, memory.action)
        return Values(jnp.where(first, memory.value, moved), action.astype(jnp.int32))


def stay_probabilities(trajectories: Trajectory) -> jax.Array:
    """Measures how often the next episode's first action is this one's.

    Args:
      trajectories: `[..., E, 2, ...]`, trials of E episodes.

    Returns:
      `[2, 2]`, the share without and with a reward, after a rare and a common
      transition, over all episodes but the last of a trial; not a number where there
      was no such episode.
    """
    action = trajectories.action[..., 0]
    reached = jnp.argmax(trajectories.obs[..., 1, :], axis=-1)
    rewarded = trajectories.reward[..., :-1, 1] > 0.5
    common = (reached == 1 + action)[..., :-1]
    stays = action[..., 1:] == action[..., :-1]
    return jnp.array(
        [
            [jnp.mean(stays, where=(rewarded == r) & (common == c)) for c in (0, 1)]
            for r in (0, 1)
        ]
    )

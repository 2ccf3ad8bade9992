"""The Bayes-optimal learner of the two-step task."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.distributions import Categorical


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

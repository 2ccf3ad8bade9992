"""Classical learners of Gaussian bandits: policies that remember sums and counts.

The arms are independent, μ_a ~ U[0, 1] and r ~ N(μ_a, σ²): those of
`metarl_jax.envs.bandit.gaussian_bandit`. Ties go to the first arm.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.distributions import Categorical
from metarl_jax.types import Key
from metarl_jax.validation import check_above_zero, check_not_negative, check_positive


class Record(NamedTuple):
    """What a learner of Gaussian bandits remembers."""

    total: jax.Array  # [K] reward of each arm
    pulls: jax.Array  # [K] of each arm
    key: Key  # of the next draw


class GaussianBanditStrategy(NamedTuple):
    """A policy from a score: the arm of the largest is pulled.

    Attributes:
      num_arms: K.
      score: `(key, mean [K], pulls [K]) -> [K]`, from the mean reward of each arm, zero
        before its first pull.
    """

    num_arms: int
    score: Callable[[Key, jax.Array, jax.Array], jax.Array]

    def init(self, key, memory, obs):
        """Returns no parameters."""
        del key, memory, obs
        return {}

    def initial_memory(self):
        """Returns an empty record; the key is replaced before it is used."""
        zeros = jnp.zeros(self.num_arms)
        return Record(zeros, zeros, jax.random.key(0))

    def begin(self, key, memory):
        """Takes the key of an episode's draws."""
        return memory._replace(key=key)

    def apply(self, params, memory, obs):
        """Pulls the arm of the largest score; the value is not estimated."""
        del params, obs
        key, key_score = jax.random.split(memory.key)
        mean = memory.total / jnp.maximum(memory.pulls, 1.0)
        best = jnp.argmax(self.score(key_score, mean, memory.pulls))
        logits = jnp.log(jax.nn.one_hot(best, self.num_arms))
        return Categorical(logits), jnp.zeros(()), memory._replace(key=key)

    def observe(self, memory, transition):
        """Records what the pulled arm paid."""
        pulled = jax.nn.one_hot(transition.action, self.num_arms)
        return memory._replace(
            total=memory.total + pulled * transition.reward,
            pulls=memory.pulls + pulled,
        )


def ucb(num_arms: int, *, exploration: float | jax.Array = 1.0):
    """Builds the learner of the largest upper bound, mean + c / √n.

    Every arm is pulled once first. With c = 1 it is the one that Lee et al. 2023 (arXiv
    2306.14892) compare with; with c = 0 it is greedy after the first pulls.

    Args:
      num_arms: K.
      exploration: c; may be traced.

    Returns:
      The strategy.

    Raises:
      ValueError: if `num_arms` is below 1.
    """
    check_positive(num_arms=num_arms)
    check_not_negative(exploration=exploration)

    def score(key, mean, pulls):
        del key
        bound = mean + exploration / jnp.sqrt(jnp.maximum(pulls, 1.0))
        return jnp.where(pulls > 0, bound, jnp.inf)

    return GaussianBanditStrategy(num_arms, score)


def thompson_sampling(num_arms: int, *, noise_std: float = 0.3):
    """Builds Thompson sampling from the exact posterior.

    With n rewards of mean m it is N(m, σ²/n) within [0, 1], and at first uniform.

    Args:
      num_arms: K.
      noise_std: σ.

    Returns:
      The strategy.

    Raises:
      ValueError: if `num_arms` is below 1 or σ not above 0.
    """
    check_positive(num_arms=num_arms)
    check_above_zero(noise_std=noise_std)

    def score(key, mean, pulls):
        # Within [0, 1] a normal distribution as wide as this is uniform.
        std = jnp.where(pulls > 0, noise_std / jnp.sqrt(jnp.maximum(pulls, 1.0)), 1e3)
        low, high = -mean / std, (1.0 - mean) / std
        return mean + std * jax.random.truncated_normal(key, low, high)

    return GaussianBanditStrategy(num_arms, score)

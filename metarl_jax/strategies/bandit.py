"""Classical learners of Bernoulli bandits: policies with counts for a memory.

A strategy is a rule from what each arm has paid to the probability of pulling it next.
Where a rule needs chance beyond that, as a posterior sample does, it gets a key, which
the memory carries from the start of the episode.

The arms are Bernoulli with independent uniform priors unless a rule says otherwise.
Ties go to the first arm, which on exchangeable arms is as good as any.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax.distributions import Categorical
from metarl_jax.strategies import sampling
from metarl_jax.strategies.gittins import gittins_table
from metarl_jax.types import Key
from metarl_jax.validation import (
    check_above_zero,
    check_fraction,
    check_not_negative,
    check_positive,
)


class Counts(NamedTuple):
    """What a bandit strategy remembers."""

    successes: jax.Array  # [K] int32, pulls that paid
    failures: jax.Array  # [K] int32, pulls that did not
    key: Key  # of the next draw


class BanditStrategy(NamedTuple):
    """A policy from a rule.

    Attributes:
      num_arms: K.
      choose: `(key, successes [K], failures [K]) -> [K]`, the probability of each arm.
    """

    num_arms: int
    choose: Callable[[Key, jax.Array, jax.Array], jax.Array]

    def init(self, key, memory, obs):
        """Returns no parameters."""
        del key, memory, obs
        return {}

    def initial_memory(self):
        """Returns counts of zero; the key is replaced before it is used."""
        zeros = jnp.zeros(self.num_arms, jnp.int32)
        return Counts(zeros, zeros, jax.random.key(0))

    def begin(self, key, memory):
        """Takes the key of an episode's draws."""
        return memory._replace(key=key)

    def apply(self, params, memory, obs):
        """Applies the rule; the value is not estimated."""
        del params, obs
        key, key_choice = jax.random.split(memory.key)
        probability = self.choose(key_choice, memory.successes, memory.failures)
        return (
            Categorical(jnp.log(probability)),
            jnp.zeros(()),
            memory._replace(key=key),
        )

    def observe(self, memory, transition):
        """Counts what the pulled arm paid."""
        pulled = jnp.arange(self.num_arms) == transition.action
        paid = transition.reward > 0.5
        return memory._replace(
            successes=memory.successes + (pulled & paid),
            failures=memory.failures + (pulled & ~paid),
        )


def _one_hot_argmax(scores: jax.Array) -> jax.Array:
    return jax.nn.one_hot(jnp.argmax(scores), scores.shape[0])


def epsilon_greedy(
    num_arms: int, *, epsilon: float | jax.Array = 0.1
) -> BanditStrategy:
    """Builds the learner that pulls the arm of the best posterior mean, or any.

    p(a) = (1 - ε) [a = argmax (1 + s_a) / (2 + s_a + f_a)] + ε / K. With ε = 0 it is
    the greedy learner, with ε = 1 it pulls at random.

    Args:
      num_arms: K.
      epsilon: ε; may be traced.

    Returns:
      The strategy.

    Raises:
      ValueError: if `num_arms` is below 1 or ε not between 0 and 1.
    """
    check_positive(num_arms=num_arms)
    check_fraction(epsilon=epsilon)

    def choose(key, successes, failures):
        del key
        greedy = _one_hot_argmax((1 + successes) / (2 + successes + failures))
        return (1.0 - epsilon) * greedy + epsilon / num_arms

    return BanditStrategy(num_arms, choose)


def ucb1(num_arms: int, *, exploration: float | jax.Array = 0.2) -> BanditStrategy:
    """Builds UCB1 (Auer et al. 2002) as Duan et al. 2016, arXiv 1611.02779, run it.

    The arm of the largest index s_a / n_a + c √(2 ln t / n_a), t = Σ n_a, where every
    arm starts with one success in two pulls.

    Args:
      num_arms: K.
      exploration: c; 1 in the original. May be traced.

    Returns:
      The strategy.

    Raises:
      ValueError: if `num_arms` is below 1.
    """
    check_positive(num_arms=num_arms)
    check_not_negative(exploration=exploration)

    def choose(key, successes, failures):
        del key
        pulls = 2.0 + successes + failures
        width = jnp.sqrt(2.0 * jnp.log(jnp.sum(pulls)) / pulls)
        return _one_hot_argmax((1 + successes) / pulls + exploration * width)

    return BanditStrategy(num_arms, choose)


def thompson_sampling(num_arms: int, *, num_samples: int = 1) -> BanditStrategy:
    """Builds Thompson sampling, and its optimistic variant of Duan et al. 2016.

    Draws means p ~ Π_a Beta(1 + s_a, 1 + f_a) and pulls the arm of the largest. Of N
    draws the one with the highest density Σ_a s_a ln p_a + f_a ln(1 - p_a) is kept
    (arXiv 1611.02779; "optimistic Thompson sampling" there).

    Args:
      num_arms: K.
      num_samples: N; 1 is Thompson sampling.

    Returns:
      The strategy.

    Raises:
      ValueError: if a count is below 1.
    """
    check_positive(num_arms=num_arms, num_samples=num_samples)

    def choose(key, successes, failures):
        shape = (num_samples, num_arms)
        means = sampling.beta(
            key, jnp.broadcast_to(successes, shape), jnp.broadcast_to(failures, shape)
        )
        log_density = jnp.sum(
            jax.scipy.special.xlogy(successes, means)
            + jax.scipy.special.xlog1py(failures, -means),
            axis=-1,
        )
        return _one_hot_argmax(means[jnp.argmax(log_density)])

    return BanditStrategy(num_arms, choose)


def gittins(num_arms: int, *, horizon: int) -> BanditStrategy:
    """Builds the learner that pulls the arm of the largest finite-horizon index.

    Args:
      num_arms: K.
      horizon: T, pulls in all.

    Returns:
      The strategy. Its table is computed here (`gittins.gittins_table`).

    Raises:
      ValueError: if a count is below 1.
    """
    check_positive(num_arms=num_arms, horizon=horizon)
    table = gittins_table(horizon)
    levels, indices = np.log(table.num_left), jnp.asarray(table.indices, jnp.float32)

    def choose(key, successes, failures):
        del key
        num_left = horizon - jnp.sum(successes + failures)
        level = jnp.interp(jnp.log(num_left), levels, np.arange(len(levels)))
        below = jnp.int32(level)
        above = jnp.minimum(below + 1, len(levels) - 1)
        low, high = (indices[i, successes, failures] for i in (below, above))
        # With exactly `below` left, `above` may be more than can be.
        between = jnp.where(level > below, (level - below) * (high - low), 0.0)
        return _one_hot_argmax(low + between)

    return BanditStrategy(num_arms, choose)


def whittle(num_arms: int, *, discount: float = 1.0) -> BanditStrategy:
    """Builds the learner that follows Whittle's approximation of the Gittins index.

    μ + μ (1 - μ) / (n √((2 ln(1/γ) + 1/n) μ (1 - μ)) + μ - ½) for an arm of mean μ
    after n pulls, two prior ones included (Whittle 1982, chapter 14), for discounted
    rewards without an end: it does not know how many pulls are left.

    Args:
      num_arms: K.
      discount: γ in (0, 1].

    Returns:
      The strategy.

    Raises:
      ValueError: if `num_arms` is below 1 or γ not in (0, 1].
    """
    check_positive(num_arms=num_arms)
    check_above_zero(discount=discount)
    check_fraction(discount=discount)

    def choose(key, successes, failures):
        del key
        n = 2.0 + successes + failures
        mean = (1 + successes) / n
        variance = mean * (1.0 - mean)
        width = jnp.sqrt((2.0 * np.log(1.0 / discount) + 1.0 / n) * variance)
        return _one_hot_argmax(mean + variance / (n * width + mean - 0.5))

    return BanditStrategy(num_arms, choose)


def correlated_arms() -> BanditStrategy:
    """Builds the Bayes-optimal learner of two arms with p₂ = 1 - p₁.

    Either arm tells as much as the other, so nothing is gained by exploring and the
    better arm under the posterior is optimal. Under a prior that is symmetric about ½,
    as all of Wang et al. 2016, arXiv 1611.05763, are, that is the first arm when
    s₁ + f₂ ≥ s₂ + f₁.

    Returns:
      The strategy.
    """

    def choose(key, successes, failures):
        del key
        return _one_hot_argmax(successes + failures[::-1])

    return BanditStrategy(2, choose)


class InformativeArmFirst(NamedTuple):
    """The Bayes-optimal learner of Wang et al.'s bandit with an informative arm.

    Pulls the last arm, which pays a tenth of the target's number, then the target
    (`metarl_jax.envs.bandit.informative_bandit`).

    Attributes:
      num_arms: K.
    """

    num_arms: int = 11

    def init(self, key, memory, obs):
        """Returns no parameters."""
        del key, memory, obs
        return {}

    def initial_memory(self):
        """Returns the arm to pull: the informative one."""
        return jnp.int32(self.num_arms - 1)

    def apply(self, params, memory, obs):
        """Pulls that arm; the value is not estimated."""
        del params, obs
        logits = jnp.log(jax.nn.one_hot(memory, self.num_arms))
        return Categorical(logits), jnp.zeros(()), memory

    def observe(self, memory, transition):
        """Reads the target off the informative arm's reward."""
        target = jnp.round(10.0 * transition.reward).astype(jnp.int32) - 1
        return jnp.where(memory == self.num_arms - 1, target, memory)

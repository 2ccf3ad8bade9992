"""Classical learners of tabular MDPs: they plan at the start of every episode.

A strategy is a rule from what was seen of each state and action to the action values of
the coming episode. Where the posterior is spoken of, P(· | s, a) ~ Dirichlet(1, …, 1)
and R(s, a) ~ N(μ₀, 1) with rewards of unit noise; n is the number of visits of (s, a).

The definitions, constants included, are those of the code that Duan et al. 2016, arXiv
1611.02779, compare with (Osband's TabulaRL). As there, what follows an episode's last
step is not learned from.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.distributions import Categorical
from metarl_jax.strategies import sampling
from metarl_jax.types import Key
from metarl_jax.validation import (
    check_above_zero,
    check_finite,
    check_flags,
    check_fraction,
    check_not_negative,
    check_positive,
)


class Experience(NamedTuple):
    """What was seen in a trial."""

    visits: jax.Array  # [S, A]
    reward_sum: jax.Array  # [S, A]
    transitions: jax.Array  # [S, A, S], how often s' followed
    episode: jax.Array  # [] the episode's number, from 1


class MDPMemory(NamedTuple):
    """What an MDP strategy remembers."""

    experience: Experience
    q: jax.Array  # [T, S, A], this episode's plan
    time: jax.Array  # [] int32, steps of this episode


class MDPStrategy(NamedTuple):
    """A policy from a rule.

    Attributes:
      num_states: S.
      num_actions: A.
      horizon: T, steps of an episode.
      plan: `(key, Experience) -> [T, S, A]`, action values.
      epsilon: probability of a random action instead of the best.
    """

    num_states: int
    num_actions: int
    horizon: int
    plan: Callable[[Key, Experience], jax.Array]
    epsilon: float | jax.Array = 0.0

    def init(self, key, memory, obs):
        """Returns no parameters."""
        del key, memory, obs
        return {}

    def initial_memory(self):
        """Returns no experience; the plan is made before it is used."""
        shape = (self.num_states, self.num_actions)
        zeros = jnp.zeros(shape)
        experience = Experience(
            zeros, zeros, jnp.zeros((*shape, self.num_states)), jnp.zeros(())
        )
        return MDPMemory(experience, jnp.zeros((self.horizon, *shape)), jnp.int32(0))

    def begin(self, key, memory):
        """Plans an episode."""
        experience = memory.experience
        experience = experience._replace(episode=experience.episode + 1.0)
        return MDPMemory(experience, self.plan(key, experience), jnp.int32(0))

    def apply(self, params, memory, obs):
        """Takes one of the plan's best actions, or any; estimates no value."""
        del params
        q = memory.q[memory.time, jnp.argmax(obs)]
        # Equal values up to rounding: the actions not tried yet. A state that is met
        # again before the next plan shall not try the same one again.
        best = q >= jnp.max(q) - 1e-5
        greedy = best / jnp.sum(best)
        probability = (1.0 - self.epsilon) * greedy + self.epsilon / self.num_actions
        memory = memory._replace(time=memory.time + 1)
        return Categorical(jnp.log(probability)), jnp.zeros(()), memory

    def observe(self, memory, transition):
        """Adds a step to the experience."""
        seen = memory.experience
        action = jnp.arange(self.num_actions) == transition.action
        visited = transition.obs[:, None] * action
        goes_on = ~(transition.terminated | transition.truncated)
        followed = visited[:, :, None] * transition.next_obs * goes_on
        experience = Experience(
            seen.visits + visited,
            seen.reward_sum + visited * transition.reward,
            seen.transitions + followed,
            seen.episode,
        )
        return memory._replace(experience=experience)


def plan_values(
    transition: jax.Array,
    mean_reward: jax.Array,
    *,
    horizon: int,
    bonus_to_go: jax.Array | float = 0.0,
) -> jax.Array:
    """Computes action values by backward induction.

    Q_t = R + P max_a Q_{t+1} + (T - 1 - t) b,  Q_T = 0.

    Args:
      transition: `[S, A, S]` P.
      mean_reward: `[S, A]` R.
      horizon: T.
      bonus_to_go: `[S, A]` b, a bonus for every step that is left.

    Returns:
      `[T, S, A]`.
    """

    def backup(value, steps_left):
        q = mean_reward + transition @ value + steps_left * bonus_to_go
        return jnp.max(q, axis=-1), q

    steps_left = jnp.arange(horizon, dtype=jnp.float32)
    start = jnp.zeros(mean_reward.shape[0])
    return jax.lax.scan(backup, start, steps_left)[1][::-1]


def _posterior(seen: Experience, prior_mean: float, prior_weight: float = 1.0):
    """Returns mean and precision of R and the mean of P under the posterior."""
    precision = prior_weight + seen.visits
    mean_reward = (prior_weight * prior_mean + seen.reward_sum) / precision
    weight = prior_weight + seen.transitions
    return mean_reward, precision, weight / jnp.sum(weight, axis=-1, keepdims=True)


def epsilon_greedy(
    num_states: int,
    num_actions: int,
    *,
    horizon: int,
    epsilon: float | jax.Array = 0.1,
    prior_mean: float = 1.0,
    prior_weight: float = 1.0,
) -> MDPStrategy:
    """Builds the learner that plans in the posterior mean; greedy for ε = 0.

    Args:
      num_states: S.
      num_actions: A.
      horizon: T.
      epsilon: ε, of a random action in each step; may be traced.
      prior_mean: μ₀.
      prior_weight: the prior's precision of R and Dirichlet parameter of P; close to 0
        for plain frequencies and mean rewards, as in TabulaRL.

    Returns:
      The strategy.

    Raises:
      ValueError: if a count is below 1, ε not between 0 and 1 or the weight not above
        0.
    """
    check_positive(num_states=num_states, num_actions=num_actions, horizon=horizon)
    check_fraction(epsilon=epsilon)
    check_above_zero(prior_weight=prior_weight)
    check_finite(prior_mean=prior_mean)

    def plan(key, seen):
        del key
        mean_reward, _, transition = _posterior(seen, prior_mean, prior_weight)
        return plan_values(transition, mean_reward, horizon=horizon)

    return MDPStrategy(num_states, num_actions, horizon, plan, epsilon)


def posterior_sampling(
    num_states: int,
    num_actions: int,
    *,
    horizon: int,
    num_samples: int = 1,
    prior_mean: float = 1.0,
) -> MDPStrategy:
    """Builds PSRL (Osband et al. 2013, arXiv 1306.0940), or optimistic PSRL.

    Plans in an MDP drawn from the posterior, and for N > 1 by the largest action values
    of N such plans.

    Args:
      num_states: S.
      num_actions: A.
      horizon: T.
      num_samples: N.
      prior_mean: μ₀.

    Returns:
      The strategy.

    Raises:
      ValueError: if a count is below 1.
    """
    check_positive(
        num_states=num_states,
        num_actions=num_actions,
        horizon=horizon,
        num_samples=num_samples,
    )
    check_finite(prior_mean=prior_mean)

    def plan_one(key, seen):
        key_reward, key_transition = jax.random.split(key)
        mean, precision, _ = _posterior(seen, prior_mean)
        # Drawn flat: XLA takes seconds to compile random arrays with several axes.
        noise = jax.random.normal(key_reward, (mean.size,)).reshape(mean.shape)
        reward = mean + noise / jnp.sqrt(precision)
        transition = sampling.dirichlet(key_transition, seen.transitions)
        return plan_values(transition, reward, horizon=horizon)

    def plan(key, seen):
        keys = jax.random.split(key, num_samples)
        return jnp.max(jax.vmap(plan_one, (0, None))(keys, seen), axis=0)

    return MDPStrategy(num_states, num_actions, horizon, plan)


def beb(
    num_states: int,
    num_actions: int,
    *,
    horizon: int,
    scaling: float | jax.Array = 1e-3,
    prior_mean: float = 1.0,
) -> MDPStrategy:
    """Builds the Bayesian exploration bonus (Kolter & Ng 2009).

    Plans in the posterior mean with a bonus of 1 / (2 + n) in each step and
    2 c T³ / (1 + S + n') for every step that is left, n' being the transitions seen.

    Args:
      num_states: S.
      num_actions: A.
      horizon: T.
      scaling: c; may be traced.
      prior_mean: μ₀.

    Returns:
      The strategy.

    Raises:
      ValueError: if a count is below 1.
    """
    check_positive(num_states=num_states, num_actions=num_actions, horizon=horizon)
    check_not_negative(scaling=scaling)
    check_finite(prior_mean=prior_mean)

    def plan(key, seen):
        del key
        mean_reward, precision, transition = _posterior(seen, prior_mean)
        weight = num_states + jnp.sum(seen.transitions, axis=-1)
        return plan_values(
            transition,
            mean_reward + 1.0 / (precision + 1.0),
            horizon=horizon,
            bonus_to_go=2.0 * horizon**3 * scaling / (1.0 + weight),
        )

    return MDPStrategy(num_states, num_actions, horizon, plan)


def ucrl2(
    num_states: int,
    num_actions: int,
    *,
    horizon: int,
    scaling: float | jax.Array = 0.1,
    delta: float = 0.05,
    compounding: bool = False,
) -> MDPStrategy:
    """Builds UCRL2 (Jaksch et al. 2010) for episodes: optimism in a confidence set.

    Plans in the best MDP whose rewards are within c √(4 L / n) of the mean seen and
    whose P(· | s, a) are within c √(4 S L / n) of the frequencies seen in the L₁ norm,
    L = ln(2 S A (episode + 1) / δ). A state and action without visits count as one
    visit with a mean reward of 0 and uniform transitions. No prior is used.

    Args:
      num_states: S.
      num_actions: A.
      horizon: T.
      scaling: c; 1 in theory. May be traced.
      delta: δ.
      compounding: whether the distributions found for a step are the frequencies that
        the step before it starts from, so that optimism grows with the steps to go.
        TabulaRL does so, by changing its estimate in place where a ball does not reach
        certainty; the published returns of Duan et al. 2016 have it.

    Returns:
      The strategy.

    Raises:
      ValueError: if a count is below 1 or δ not between 0 and 1.
    """
    check_positive(num_states=num_states, num_actions=num_actions, horizon=horizon)
    check_not_negative(scaling=scaling)
    check_above_zero(delta=delta)
    check_fraction(delta=delta)
    check_flags(compounding=compounding)

    def plan(key, seen):
        del key
        num_pairs = num_states * num_actions
        log_term = jnp.log(2.0 * num_pairs * (seen.episode + 1.0) / delta)
        num_followed = jnp.sum(seen.transitions, axis=-1)
        reward_slack = scaling * jnp.sqrt(4 * log_term / jnp.maximum(seen.visits, 1))
        transition_slack = scaling * jnp.sqrt(
            4 * num_states * log_term / jnp.maximum(num_followed, 1)
        )
        reward = seen.reward_sum / jnp.maximum(seen.visits, 1) + reward_slack
        frequency = jnp.where(
            num_followed[:, :, None] > 0,
            seen.transitions / jnp.maximum(num_followed, 1)[:, :, None],
            1.0 / num_states,
        )

        def backup(carry, _):
            value, centre = carry
            transition = most_optimistic(centre, transition_slack, value)
            q = reward + jnp.sum(transition * value, axis=-1)
            if compounding:
                certain = centre[..., jnp.argmax(value)] + 0.5 * transition_slack > 1
                centre = jnp.where(certain[..., None], centre, transition)
            return (jnp.max(q, axis=-1), centre), q

        start = jnp.zeros(num_states), frequency
        return jax.lax.scan(backup, start, length=horizon)[1][::-1]

    return MDPStrategy(num_states, num_actions, horizon, plan)


def most_optimistic(
    frequency: jax.Array, slack: jax.Array, value: jax.Array
) -> jax.Array:
    """Finds the distributions in L₁ balls that have the largest expected value.

    Half of the slack is added to the best state, and what is then too much taken from
    the worst states (Jaksch et al. 2010, figure 2).

    Args:
      frequency: `[S, A, S]` centres, distributions over the last axis.
      slack: `[S, A]` radii.
      value: `[S]`.

    Returns:
      `[S, A, S]` distributions.
    """
    order = jnp.argsort(value)
    ranked = frequency[..., order]  # from the worst to the best
    best = jnp.minimum(ranked[..., -1] + 0.5 * slack, 1.0)
    surplus = best - ranked[..., -1]
    others = ranked[..., :-1]
    taken_before = jnp.cumsum(others, axis=-1) - others
    taken = jnp.clip(surplus[..., None] - taken_before, 0.0, others)
    ranked = jnp.concatenate([others - taken, best[..., None]], axis=-1)
    return ranked[..., jnp.argsort(order)]

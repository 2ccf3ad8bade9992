"""Multi-armed bandits. An episode is a number of pulls; the observation is constant."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from metarl_jax.envs.gymnax_family import gymnax_family
from metarl_jax.memory import check_fits
from metarl_jax.strategies.bayes_optimal import CORRELATED_FAMILIES
from metarl_jax.strategies.gittins import gittins_indices, gittins_return
from metarl_jax.types import TaskDistribution
from metarl_jax.validation import (
    check_at_least,
    check_choice,
    check_not_negative,
    check_positive,
)

MAX_GITTINS_HORIZON = 100


@struct.dataclass(kw_only=True)
class EnvState(environment.EnvState):
    """What time changes: the number of pulls made."""


@struct.dataclass(kw_only=True)
class EnvParams(environment.EnvParams):
    """The task."""

    mean: jax.Array  # [K], each arm's expected reward


class Bandit(environment.Environment[EnvState, EnvParams]):
    """K arms; pulling arm a pays a reward of mean μ_a.

    The observation is a constant 1 `[1]`: a zero would leave a network's first layer
    without a gradient.

    Args:
      num_arms: K.
      reward: `"bernoulli"` r ~ Bernoulli(μ_a), `"gaussian"` r ~ N(μ_a, σ²) or
        `"deterministic"` r = μ_a.
      noise_std: σ.
    """

    def __init__(
        self,
        *,
        num_arms: int,
        reward: Literal["bernoulli", "gaussian", "deterministic"],
        noise_std: float = 0.0,
    ):
        super().__init__()
        self.num_arms = num_arms
        self.reward = reward
        self.noise_std = noise_std

    def reset_env(self, key, params):
        """Starts counting pulls."""
        del key, params
        return jnp.ones(1), EnvState(time=0)

    def step_env(self, key, state, action, params):
        """Pulls an arm."""
        mean = params.mean[action]
        if self.reward == "bernoulli":
            reward = jax.random.bernoulli(key, mean).astype(jnp.float32)
        elif self.reward == "gaussian":
            reward = mean + self.noise_std * jax.random.normal(key)
        else:
            reward = mean
        state = EnvState(time=state.time + 1)
        return jnp.ones(1), state, reward, self.is_terminated(state, params), {}

    def is_terminated(self, state, params):
        """Returns False: only the number of pulls ends an episode."""
        del state, params
        return jnp.asarray(False)

    @property
    def name(self) -> str:
        """Environment name."""
        return "Bandit"

    @property
    def num_actions(self) -> int:
        """Number of arms."""
        return self.num_arms

    def action_space(self, params=None):
        """The arms."""
        del params
        return spaces.Discrete(self.num_arms)

    def observation_space(self, params):
        """The constant 1."""
        del params
        return spaces.Box(1.0, 1.0, (1,))


def bernoulli_bandit(*, num_arms: int = 5, horizon: int = 10) -> TaskDistribution:
    """Builds the bandits of Duan et al. 2016, arXiv 1611.02779 (Table 1).

    p_a ~ U[0, 1] independently. With `num_arms=2, horizon=100` it is the independent
    family D_i of Wang et al. 2016. The papers have no split: held-out tasks are new
    draws.

    Oracles: `"optimal arm"`, which knows the arms, and for up to 100 pulls
    `"Gittins index"`, a learner that does not (`metarl_jax.strategies.gittins`). For 10
    pulls of 5 arms a Bayes-optimal learner has a mean return of 6.6600.

    Args:
      num_arms: K.
      horizon: T, pulls in an episode.

    Returns:
      The family.

    Raises:
      ValueError: if a count is below 1.
    """
    check_at_least(2, num_arms=num_arms)
    check_positive(horizon=horizon)
    check_fits(f"a task of num_arms={num_arms}", 4 * num_arms)
    env = Bandit(num_arms=num_arms, reward="bernoulli")

    def sample(key):
        return EnvParams(mean=jax.random.uniform(key, (num_arms,)))

    oracles = {"optimal arm": _optimal_arm(horizon)}
    if horizon <= MAX_GITTINS_HORIZON:

        def gittins(key, task):
            # Filled in when the oracle is traced, and then kept for the next trace.
            indices = jnp.asarray(gittins_indices(horizon), jnp.float32)
            return gittins_return(key, task.mean, indices)

        oracles["Gittins index"] = gittins
    return _family(env, sample, horizon, oracles)


def correlated_bandit(
    *,
    family: Literal["uniform", "easy", "medium", "hard"] = "uniform",
    horizon: int = 100,
) -> TaskDistribution:
    """Builds the correlated two-armed bandits of Wang et al. 2016, arXiv 1611.05763.

    p_2 = 1 - p_1, with p_1 ~ U[0, 1] (`"uniform"`, D_u) or p_1 equal to δ or 1 - δ with
    probability ½ each: δ = 0.1 (`"easy"`, D_e), 0.25 (`"medium"`, D_m), 0.4 (`"hard"`,
    D_h). The independent family D_i is `bernoulli_bandit(num_arms=2, horizon=100)`.
    Held-out tasks are new draws.

    The oracle `"optimal arm"` knows the arms: 75, 90, 75 and 60 on average. A
    Bayes-optimal learner falls short of it by 1.2214, 0.6250, 1.0000 and 2.3121
    (`metarl_jax.strategies.bayes_optimal`).

    Args:
      family: how p_1 is drawn.
      horizon: T, pulls in an episode.

    Returns:
      The family.

    Raises:
      ValueError: if the family is unknown or the horizon below 1.
    """
    check_choice(["uniform", *CORRELATED_FAMILIES], family=family)
    check_positive(horizon=horizon)
    env = Bandit(num_arms=2, reward="bernoulli")

    def sample(key):
        if family == "uniform":
            p = jax.random.uniform(key)
            return EnvParams(mean=jnp.stack([p, 1.0 - p]))
        arms = jnp.array(
            [CORRELATED_FAMILIES[family], 1.0 - CORRELATED_FAMILIES[family]]
        )
        swap = jax.random.bernoulli(key)
        return EnvParams(mean=jnp.where(swap, arms[::-1], arms))

    oracles = {"optimal arm": _optimal_arm(horizon)}
    return _family(env, sample, horizon, oracles)


def informative_bandit(*, num_arms: int = 11, horizon: int = 5) -> TaskDistribution:
    """Builds the bandit with an informative arm of Wang et al. 2016, arXiv 1611.05763.

    Rewards are deterministic. One of the first K - 1 arms, the target, pays 5 and the
    others 1; the last arm pays a tenth of the target's number, counted from 1: its
    reward is poor, but one pull of it tells where the target is. Held-out tasks are new
    draws.

    The oracle `"optimal arm"` pulls the target throughout: 25. A Bayes-optimal learner
    has 20.55.

    Args:
      num_arms: K.
      horizon: T, pulls in an episode.

    Returns:
      The family.

    Raises:
      ValueError: if there are fewer than 3 arms, or the horizon is below 1.
    """
    # The informative one, and two that may be the target.
    check_at_least(3, num_arms=num_arms)
    check_positive(horizon=horizon)
    check_fits(f"a task of num_arms={num_arms}", 4 * num_arms)
    env = Bandit(num_arms=num_arms, reward="deterministic")

    def sample(key):
        target = jax.random.randint(key, (), 0, num_arms - 1)
        plain = jnp.where(jnp.arange(num_arms - 1) == target, 5.0, 1.0)
        return EnvParams(mean=jnp.append(plain, 0.1 * (target + 1)))

    oracles = {"optimal arm": _optimal_arm(horizon)}
    return _family(env, sample, horizon, oracles)


def gaussian_bandit(
    *, num_arms: int = 5, horizon: int = 500, noise_std: float = 0.3
) -> TaskDistribution:
    """Builds the Gaussian bandits of Lee et al. 2023, arXiv 2306.14892.

    μ_a ~ U[0, 1] independently, r ~ N(μ_a, σ²). Held-out tasks are new draws.

    The oracle `"optimal arm"` knows the means: T · E max_a μ_a, 416.7 on average.

    Args:
      num_arms: K.
      horizon: T, pulls in an episode.
      noise_std: σ.

    Returns:
      The family.

    Raises:
      ValueError: if a count is below 1, or the noise is negative.
    """
    check_at_least(2, num_arms=num_arms)
    check_positive(horizon=horizon)
    check_not_negative(noise_std=noise_std)
    check_fits(f"a task of num_arms={num_arms}", 4 * num_arms)
    env = Bandit(num_arms=num_arms, reward="gaussian", noise_std=noise_std)

    def sample(key):
        return EnvParams(mean=jax.random.uniform(key, (num_arms,)))

    oracles = {"optimal arm": _optimal_arm(horizon)}
    return _family(env, sample, horizon, oracles)


def _family(env, sample, horizon, oracles):
    def optimal_action(task, obs):
        del obs
        return jnp.argmax(task.mean)

    family = gymnax_family(
        env, sample, horizon=horizon, oracles=oracles, optimal_action=optimal_action
    )
    if env.reward == "deterministic":
        return family
    return family._replace(expected_reward=lambda task, steps: task.mean[steps.action])


def _optimal_arm(horizon):
    def optimal_arm(key, task):
        del key
        return horizon * jnp.max(task.mean)

    return optimal_arm

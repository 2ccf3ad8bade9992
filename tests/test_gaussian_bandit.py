"""Learners of Gaussian bandits, against the posterior on a grid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.strategies import gaussian_bandit
from metarl_jax.types import Trajectory

REWARDS = {0: [0.9, 0.2, 0.7], 1: [1.3], 2: []}


def remembered(strategy):
    """The memory after the rewards above."""
    memory = strategy.begin(jax.random.key(0), strategy.initial_memory())
    for arm, rewards in REWARDS.items():
        for reward in rewards:
            fields = {"action": jnp.int32(arm), "reward": jnp.float32(reward)}
            transition = Trajectory(**{**dict.fromkeys(Trajectory._fields), **fields})
            memory = strategy.observe(memory, transition)
    return memory


def test_thompson_sampling_pulls_an_arm_as_often_as_it_is_best():
    noise_std, count = 0.3, 40_000
    strategy = gaussian_bandit.thompson_sampling(3, noise_std=noise_std)
    memory = remembered(strategy)

    def pull(key):
        distribution, _, _ = strategy.apply({}, memory._replace(key=key), None)
        return distribution.mode()

    pulls = jax.jit(jax.vmap(pull))(jax.random.split(jax.random.key(1), count))
    actual = np.bincount(pulls, minlength=3) / count

    # Bayes' rule on a grid of means, from each reward's density.
    grid = (np.arange(2000) + 0.5) / 2000
    density = []
    for rewards in REWARDS.values():
        z = (np.array(rewards)[:, None] - grid) / noise_std
        likelihood = np.exp(-0.5 * (z**2).sum(axis=0))
        density.append(likelihood / likelihood.sum())
    below = np.cumsum(density, axis=1)
    expected = [
        np.sum(density[a] * np.prod(np.delete(below, a, axis=0), axis=0))
        for a in range(3)
    ]
    np.testing.assert_allclose(actual, expected, atol=0.01)
    assert np.ptp(expected) > 0.1


@pytest.mark.parametrize(("exploration", "arm"), [(1.0, 1), (0.4, 0), (0.0, 0)])
def test_ucb_pulls_the_largest_bound(exploration, arm):
    strategy = gaussian_bandit.ucb(3, exploration=exploration)
    memory = remembered(strategy)

    def pull(memory):
        return strategy.apply({}, memory, None)[0].mode()

    assert pull(memory) == 2  # not pulled yet
    # Means 0.6, 0.3, 0.1 after 3, 1, 4 pulls: the bounds are 0.6 + c/√3, 0.3 + c, ….
    memory = memory._replace(
        total=memory.total.at[1:].set([0.3, 0.4]), pulls=memory.pulls.at[2].set(4)
    )
    bounds = [0.6 + exploration / 3**0.5, 0.3 + exploration, 0.1 + exploration / 2]
    assert pull(memory) == arm == np.argmax(bounds)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match=r"num_arms must be .* got 0"):
        gaussian_bandit.ucb(0)
    with pytest.raises(ValueError, match=r"noise_std must be above 0; got 0.0"):
        gaussian_bandit.thompson_sampling(2, noise_std=0.0)

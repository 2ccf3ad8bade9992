"""Algorithm distillation and its data: enumerations, plain loops, what is on disk."""

import itertools
import json
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit

from metarl_jax import datasets, histories, rollout, trials
from metarl_jax.algorithms.ad import ad, policy_gradient_source
from metarl_jax.distributions import Categorical
from metarl_jax.envs.bandit import bernoulli_bandit
from metarl_jax.envs.dark_room import dark_room
from metarl_jax.policies.memory import memory_policy
from metarl_jax.policies.transformer import Transformer
from metarl_jax.types import Agent, MetaAlgorithm, Trajectory

KEY = jax.random.key(4)
BANDIT = bernoulli_bandit(num_arms=2, horizon=3)


class Biased(NamedTuple):
    """Acts by its parameters, logits `[2]`, whatever it sees."""

    def init(self, key, memory, obs):
        """Prefers one arm four to one; which, is drawn."""
        better = jax.random.bernoulli(key)
        return jnp.log(jnp.where(jnp.arange(2) == better, 0.8, 0.2))

    def apply(self, params, memory, obs):
        return Categorical(params), jnp.zeros(()), memory

    def initial_memory(self):
        return ()


class Counts(NamedTuple):
    """Predicts by Bayes' rule from how often each arm was pulled."""

    def init(self, key, memory, obs):
        return jnp.zeros(())

    def apply(self, params, memory, obs):
        odds = (memory[1] - memory[0]) * jnp.log(4.0) + params
        second = jax.nn.sigmoid(odds)
        probability = 0.2 + 0.6 * second
        logits = jnp.log(jnp.stack([1 - probability, probability]))
        return Categorical(logits), jnp.zeros(()), memory

    def initial_memory(self):
        return jnp.zeros(2)

    def observe(self, memory, transition):
        return memory.at[transition.action].add(1.0)


class Started(NamedTuple):
    agent: Agent


def still(policy, adapt=lambda key, agent, data: agent):
    def init(key):
        return Started(Agent(policy.init(key, (), jnp.ones(1)), ()))

    return MetaAlgorithm(init, lambda key, state: (state, ()), adapt, policy)


def test_at_bayes_rule_the_loss_is_the_entropy_and_its_gradient_is_zero():
    """Of six actions in two episodes, enumerated, under either kind of source."""
    exact = 0.0
    for actions in itertools.product(range(2), repeat=6):
        ones = sum(actions)
        likelihood = [0.2**ones * 0.8 ** (6 - ones), 0.8**ones * 0.2 ** (6 - ones)]
        exact -= np.mean(likelihood) * np.log(np.mean(likelihood)) / 6
    algorithm = ad(
        BANDIT,
        Counts(),
        source=still(Biased()),
        num_tasks=20_000,
        num_episodes=2,
        num_source_rounds=2,
        num_source_episodes=2,
        task_group_size=7000,
    )
    state = algorithm.init(KEY)
    info = jit(algorithm.step)(KEY, state)[1]
    np.testing.assert_allclose(info.loss, exact, atol=0.004)
    # Its deviation: the gradient of one window is below 0.2.
    assert abs(info.gradient_norm) < 0.005


def test_a_history_is_in_the_order_of_learning():
    """An agent that pulls arm 1 after one round of arm 0."""

    def adapt(key, agent, data):
        return agent._replace(params=-agent.params)

    class Sure(Biased):
        def init(self, key, memory, obs):
            return jnp.asarray([50.0, -50.0])

    learner = still(Sure(), adapt)
    whole = jit(
        lambda key: histories.history(
            key,
            BANDIT,
            learner,
            learner.init(key).agent,
            BANDIT.sample(key),
            num_rounds=3,
            num_episodes=2,
        )
    )(KEY)
    expected = np.repeat([0, 1, 0], 2)[:, None] * np.ones((6, 3))
    np.testing.assert_array_equal(whole.action, expected)


def test_what_is_cached_while_acting_is_what_is_computed_in_parallel():
    """Beyond its window, over the ends of episodes: log-probabilities agree."""
    tasks = dark_room(size=3, horizon=4)
    policy = memory_policy(tasks, Transformer(8, 2, 2, context=9))

    def both(key):
        memory = policy.initial_memory()
        params = policy.init(key, memory, tasks.blank())
        task = tasks.sample(key)
        _, acted = rollout.collect(
            key, tasks, policy, Agent(params, memory), task, num_episodes=4
        )
        steps = trials.stream(acted)
        replayed, _ = trials.replay(policy, params, None, steps)
        return steps.log_prob, replayed.log_prob(steps.action)

    cached, parallel = jit(both)(KEY)
    np.testing.assert_allclose(cached, parallel, rtol=1e-4, atol=1e-5)
    assert np.std(cached) > 1e-3


def test_the_source_learns_a_small_room():
    tasks = dark_room(size=3, horizon=4)
    source = policy_gradient_source(tasks, lr=0.1)

    def learn(key):
        return histories.history(
            key,
            tasks,
            source,
            source.init(key).agent,
            tasks.sample(key),
            num_rounds=15,
            num_episodes=8,
        )

    returns = rollout.episode_returns(jit(jax.vmap(learn))(jax.random.split(KEY, 8)))
    first, last = returns[:, :16].mean(), returns[:, -16:].mean()
    assert last > first + 1.0


def numbered(num_histories=3, num_episodes=7, horizon=2):
    """Histories whose rewards say where they stand."""
    lead = (num_histories, num_episodes, horizon)
    place = np.arange(np.prod(lead)).reshape(lead)
    return Trajectory(
        obs=np.eye(2, dtype=np.float32)[place % 2],
        action=(place % 3).astype(np.int32),
        log_prob=-place.astype(np.float32) / 7,
        reward=place.astype(np.float32) + 1000,
        next_obs=np.eye(2, dtype=np.float32)[(place + 1) % 2],
        terminated=np.zeros(lead, bool),
        truncated=place % horizon == horizon - 1,
        mask=np.ones(lead, bool),
    )


@pytest.fixture
def folder(tmp_path):
    task = {"goal": np.arange(6).reshape(3, 2)}
    return datasets.save_dataset(tmp_path / "set", numbered(), task, about={"a": 1})


def test_a_data_set_comes_back_as_it_was(folder):
    dataset = datasets.load_dataset(folder)
    assert all(isinstance(x, np.memmap) for x in dataset.steps)
    assert dataset.steps.obs.dtype == np.uint8  # one-hot takes a byte a number
    back = datasets.read(dataset, np.arange(3), np.tile(np.arange(7), (3, 1)))
    for x, y in zip(back, numbered(), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)
    np.testing.assert_array_equal(dataset.tasks["goal"], np.arange(6).reshape(3, 2))
    assert dataset.header["about"] == {"a": 1}
    assert (dataset.num_histories, dataset.num_episodes, dataset.horizon) == (3, 7, 2)


def test_windows_are_every_so_many_episodes_of_a_history(folder):
    draw = datasets.windows(datasets.load_dataset(folder), num_episodes=3, stride=2)
    steps = jit(partial(draw, num_windows=200))(KEY)
    place = np.asarray(steps.reward) - 1000
    start = place[:, 0, 0]
    expected = start[:, None, None] + 4 * np.arange(3)[:, None] + np.arange(2)
    np.testing.assert_array_equal(place, expected)
    # All three starts of all three histories, and no other.
    np.testing.assert_array_equal(np.unique(start // 2 % 7), [0, 1, 2])
    np.testing.assert_array_equal(np.unique(start // 14), [0, 1, 2])


def test_a_data_set_that_is_none_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="is not empty"):
        datasets.save_dataset(folder, numbered())
    with pytest.raises(ValueError, match=r"must hold a header\.json"):
        datasets.load_dataset(tmp_path)
    with pytest.raises(ValueError, match="spans 9 episodes"):
        datasets.windows(datasets.load_dataset(folder), num_episodes=3, stride=4)
    wrong = numbered()._replace(reward=np.zeros((3, 1, 2)))
    with pytest.raises(ValueError, match="reward must begin with the axes"):
        datasets.save_dataset(tmp_path / "other", wrong)
    np.save(folder / "reward.npy", np.zeros((1, 2)))
    with pytest.raises(ValueError, match=r"reward\.npy must hold float32"):
        datasets.load_dataset(folder)
    header = json.loads((folder / "header.json").read_text())
    (folder / "header.json").write_text(json.dumps({**header, "version": 2}))
    with pytest.raises(ValueError, match="version 2"):
        datasets.load_dataset(folder)


def test_histories_that_are_recorded_are_learned_from(tmp_path):
    source = policy_gradient_source(BANDIT)
    folder = datasets.record_histories(
        tmp_path / "set", BANDIT, source, num_tasks=3, num_rounds=2, num_episodes=2
    )
    dataset = datasets.load_dataset(folder)
    assert dataset.tasks["mean"].shape == (3, 2)
    algorithm = ad(
        BANDIT,
        Counts(),
        windows=datasets.windows(dataset, num_episodes=2),
        num_tasks=4,
        num_episodes=2,
    )
    state = algorithm.init(KEY)
    new, info = jit(algorithm.step)(KEY, state)
    assert np.isfinite(info.loss)
    assert new.agent.params != state.agent.params
    with pytest.raises(ValueError, match="must be at least 5"):
        ad(BANDIT, Counts(), num_episodes=5, num_source_rounds=2, num_source_episodes=2)

"""Every task family: what all must satisfy, then each one's exact facts."""

import itertools
import re
from fractions import Fraction
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments.classic_control import CartPole
from gymnax.environments.misc import FrozenLake, PointRobot
from gymnax.environments.spaces import Discrete

from metarl_jax import rollout
from metarl_jax.distributions import Categorical, DiagGaussian
from metarl_jax.envs import bandit, classic_control, grid_navigation, point_navigation
from metarl_jax.envs.catch import catch
from metarl_jax.envs.conditioned import task_conditioned
from metarl_jax.envs.dark_room import dark_room, room_goals
from metarl_jax.envs.gymnax_family import gymnax_family
from metarl_jax.envs.tabular_mdp import tabular_mdp, value_iteration
from metarl_jax.envs.two_step import two_step
from metarl_jax.strategies.gittins import gittins_indices
from metarl_jax.types import Agent

FAMILIES = {
    "point_navigation": partial(point_navigation.point_navigation, horizon=30),
    "sparse_point_navigation": point_navigation.sparse_point_navigation,
    "bernoulli_bandit": bandit.bernoulli_bandit,
    "correlated_bandit": bandit.correlated_bandit,
    "informative_bandit": bandit.informative_bandit,
    "gaussian_bandit": partial(bandit.gaussian_bandit, horizon=20),
    "tabular_mdp": tabular_mdp,
    "grid_navigation": grid_navigation.grid_navigation,
    "two_step": two_step,
    "dark_room": dark_room,
    "cartpole": partial(classic_control.cartpole, horizon=40),
    "pendulum": partial(classic_control.pendulum, horizon=20),
    "acrobot": partial(classic_control.acrobot, horizon=20),
    "mountain_car": partial(classic_control.mountain_car, horizon=20),
}


class UniformPolicy(NamedTuple):
    """Uniform over discrete actions, standard normal over continuous ones."""

    space: object

    def init(self, key, memory, obs):
        return ()

    def apply(self, params, memory, obs):
        if isinstance(self.space, Discrete):
            distribution = Categorical(jnp.zeros(self.space.n))
        else:
            zeros = jnp.zeros(self.space.shape)
            distribution = DiagGaussian(zeros, zeros)
        return distribution, jnp.zeros(()), memory

    def initial_memory(self):
        return ()


# These programs run once: a quarter of the compile time is worth more than speed.


def random_actions(space, length):
    """Actions `[length, ...]` as data, which spares the compiler a random stream."""
    rng = np.random.default_rng(0)
    if isinstance(space, Discrete):
        return rng.integers(space.n, size=length)
    return rng.normal(size=(length, *space.shape)).astype(np.float32)


def walk(env, task, actions, key):
    """A reset's observation and state, and the observations, states and rewards after.

    No episode ends here.
    """
    obs, state = env.reset_env(key, task)
    state = jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x)), state)

    def step(state, action):
        # One key throughout: rewards and transitions then differ by the task alone.
        next_obs, next_state, reward, _, _ = env.step_env(key, state, action, task)
        next_state = jax.tree.map(
            lambda new, old: jnp.asarray(new, old.dtype), next_state, state
        )
        return next_state, (next_obs, next_state, reward)

    return obs, state, jax.lax.scan(step, state, actions)[1]


def drawn_and_kept(first, later):
    """Names of state leaves that resets `[R]` draw and no step `[R, L]` changes."""
    names = []
    leaves = zip(
        jax.tree_util.tree_leaves_with_path(first), jax.tree.leaves(later), strict=True
    )
    for (path, reset), after in leaves:
        drawn = np.any(reset != reset[:1])
        kept = np.all(after == reset[:, None])
        if drawn and kept:
            names.append(jax.tree_util.keystr(path))
    return names


@pytest.mark.parametrize("name", FAMILIES)
def test_conformance(name):
    tasks = FAMILIES[name]()
    env, horizon = tasks.env, tasks.horizon
    num_tasks, num_episodes = 6, 100 if name == "two_step" else 3
    space = env.action_space(jax.tree.map(np.asarray, tasks.sample(jax.random.key(9))))
    policy = UniformPolicy(space)

    actions = random_actions(space, 100)

    @jax.jit
    def everything(key):
        keys = jax.random.split(key, num_tasks)
        batch = jax.vmap(tasks.sample)(keys)
        heldout = jax.vmap(tasks.sample_heldout)(keys)
        collect = partial(rollout.collect, num_episodes=num_episodes)
        _, trajectories = jax.vmap(
            lambda key, task: collect(key, tasks, policy, Agent(()), task)
        )(keys, batch)
        oracles = {
            name: jax.vmap(oracle)(keys, batch)
            for name, oracle in tasks.oracles.items()
        }
        # All tasks with the first key, then the first task with every key.
        repeated = jax.tree.map(lambda x: jnp.stack([x[0]] * num_tasks), batch)
        walks = jax.vmap(lambda task, key: walk(env, task, actions, key))(
            jax.tree.map(lambda x, y: jnp.concatenate([x, y]), batch, repeated),
            jnp.concatenate([jnp.stack([keys[0]] * num_tasks), keys]),
        )
        return batch, heldout, trajectories, oracles, walks

    batch, heldout, trajectories, oracles, walks = jax.tree.map(
        np.asarray, everything(jax.random.key(0))
    )
    same_key = jax.tree.map(lambda x: x[:num_tasks], walks)
    same_task = jax.tree.map(lambda x: x[num_tasks:], walks)

    for tree in (batch, heldout):
        assert all(leaf.shape[0] == num_tasks for leaf in jax.tree.leaves(tree))
        np.testing.assert_array_equal(tree.max_steps_in_episode, horizon)
    assert jax.tree.map(np.shape, batch) == jax.tree.map(np.shape, heldout)
    assert any(np.any(leaf != leaf[:1]) for leaf in jax.tree.leaves(batch))
    assert all(
        isinstance(leaf, jax.Array)
        for leaf in jax.tree.leaves(tasks.sample(jax.random.key(1)))
    )

    # Nothing of the task is shown or drawn by a reset, and it changes what follows.
    first_obs, first_state, streams = same_key
    for leaf in jax.tree.leaves((first_obs, first_state)):
        np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))
    next_obs, _, reward = streams
    assert np.any(reward != reward[:1]) or np.any(next_obs != next_obs[:1])
    assert drawn_and_kept(same_task[1], same_task[2][1]) == []

    shape = (num_tasks, num_episodes, horizon)
    obs_shape = env.observation_space(tasks.sample(jax.random.key(1))).shape
    assert trajectories.obs.shape == trajectories.next_obs.shape == (*shape, *obs_shape)
    assert trajectories.obs.dtype == np.float32
    assert trajectories.reward.dtype == reward.dtype == np.float32
    assert trajectories.reward.shape == trajectories.log_prob.shape == shape
    assert all(np.all(np.isfinite(leaf)) for leaf in trajectories)
    # Each episode is a prefix of true masks that ends in the one end.
    mask, ended = trajectories.mask, trajectories.terminated | trajectories.truncated
    np.testing.assert_array_equal(ended.sum(-1), 1)
    np.testing.assert_array_equal(mask.sum(-1), ended.argmax(-1) + 1)
    assert np.all(mask[..., 0])
    assert np.all(mask[..., :-1] >= mask[..., 1:])

    returns = trajectories.reward.sum(-1, where=mask).mean(-1)
    for oracle in oracles.values():
        assert oracle.shape == (num_tasks,)
        assert oracle.mean() > returns.mean()


def test_the_check_for_tasks_in_the_state_finds_one():
    env, params = PointRobot(), PointRobot().default_params
    actions = random_actions(env.action_space(params), 15)
    run = jax.jit(jax.vmap(partial(walk, env, params, actions)))
    _, first, (_, later, _) = run(jax.random.split(jax.random.key(0), 5))
    assert drawn_and_kept(first, later) == [".goal"]


def test_an_auto_reset_keeps_the_task():
    tasks = point_navigation.point_navigation(horizon=5)
    task = tasks.sample(jax.random.key(0))

    @jax.jit
    def run(key):
        def step(state, key):
            action = jax.random.normal(key, (2,))
            _, state, reward, _, truncated, info = tasks.env.step(
                key, state, action, task
            )
            return state, (info["final_observation"], reward, truncated)

        state = tasks.env.reset(key, task)[1]
        return jax.lax.scan(step, state, jax.random.split(key, 15))[1]

    position, reward, truncated = run(jax.random.key(1))
    np.testing.assert_allclose(
        reward, -np.linalg.norm(position - task.goal, axis=-1), rtol=1e-6
    )
    np.testing.assert_array_equal(np.flatnonzero(truncated), [4, 9, 14])


def test_a_shown_task_follows_an_observation_that_is_otherwise_the_same():
    tasks = point_navigation.point_navigation(horizon=4)
    shown = task_conditioned(tasks)
    task = tasks.sample(jax.random.key(0))
    key, action = jax.random.key(1), jnp.array([0.5, -2.0])
    for family in (tasks, shown):
        obs, state = family.env.reset_env(key, task)
        next_obs, *rest = family.env.step_env(key, state, action, task)
        if family is tasks:
            expected = (obs, next_obs, rest[1:3])
    for seen, hidden in zip((obs, next_obs), expected, strict=False):
        np.testing.assert_array_equal(seen, [*hidden, *task.goal])
    np.testing.assert_array_equal(rest[1:3], expected[2])
    assert shown.env.observation_space(task).shape == (4,)

    only_x = task_conditioned(tasks, lambda task: task.goal[:1])
    assert only_x.env.reset_env(key, task)[0].shape == (3,)
    lake = gymnax_family(FrozenLake(), constant(FrozenLake()))
    with pytest.raises(ValueError, match="more than its time limit"):
        task_conditioned(lake)
    with pytest.raises(ValueError, match="features must make a vector"):
        task_conditioned(tasks, lambda task: task.goal[0])


# Point navigation


def walk_straight(tasks, batch):
    """Steps every task's environment straight to its goal; returns and lengths."""
    env = tasks.env

    @jax.jit
    @jax.vmap
    def run(task):
        def step(carry, _):
            state, alive = carry
            action = (task.goal - state.position) / env.action_scale
            _, state, reward, terminated, _ = env.step_env(
                jax.random.key(0), state, action, task
            )
            return (state, alive & ~terminated), (jnp.where(alive, reward, 0.0), alive)

        state = env.reset_env(jax.random.key(0), task)[1]
        _, (reward, alive) = jax.lax.scan(
            step, (state, jnp.asarray(True)), length=tasks.horizon
        )
        return jnp.sum(reward), jnp.sum(alive)

    return run(batch)


def square_of_goals(tasks, num_side=100):
    """One task for each cell's middle in a grid over all the goals."""
    axis = (np.arange(num_side) + 0.5) / num_side - 0.5
    goals = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2).astype(np.float32)
    task = tasks.sample(jax.random.key(0))
    return jax.vmap(lambda goal: task.replace(goal=goal))(goals)


@pytest.mark.parametrize("reward", ["distance", "squared_distance"])
def test_point_navigation_oracle(reward):
    tasks = point_navigation.point_navigation(horizon=12, reward=reward)
    batch = square_of_goals(tasks)
    oracle = jax.vmap(lambda task: tasks.oracles["straight to goal"](None, task))(batch)
    walked, length = walk_straight(tasks, batch)
    np.testing.assert_allclose(oracle, walked, atol=2e-6)
    # P(length ≤ t) = ((0.1 t + 0.01) / 0.5)², so the mean is 3.7184.
    np.testing.assert_allclose(length.mean(), 3.7184, atol=0.02)
    if reward == "distance":
        # E Σ_t ‖max(0, |g| - 0.1 t)‖ by quadrature in float64 is 0.50608.
        np.testing.assert_allclose(oracle.mean(), -0.50608, atol=1e-4)


def test_point_navigation_rewards_and_actions():
    make = point_navigation.point_navigation
    # Standing still for 100 steps: the mean distance of a goal is 0.3826, squared 1/6.
    for reward, expected in [("distance", -38.26), ("squared_distance", -100 / 6)]:
        tasks = make(reward=reward)
        batch = square_of_goals(tasks)

        def stand(task, env=tasks.env):
            state = env.reset_env(jax.random.key(0), task)[1]
            return env.step_env(jax.random.key(0), state, jnp.zeros(2), task)[2]

        assert 100 * jax.vmap(stand)(batch).mean() == pytest.approx(expected, abs=0.01)

    for options, action, move in [
        ({}, [0.5, -3.0], [0.05, -0.1]),
        ({"action_scale": 1.0}, [0.05, -0.5], [0.05, -0.1]),
        ({"action_scale": 1.0, "max_step": 0.5}, [0.05, -0.4], [0.05, -0.4]),
    ]:
        tasks = make(**options)
        task = tasks.sample(jax.random.key(0)).replace(goal=jnp.array([0.05, -0.1]))
        _, state = tasks.env.reset_env(jax.random.key(0), task)
        obs, _, reward, terminated, _ = tasks.env.step_env(
            jax.random.key(0), state, jnp.array(action), task
        )
        np.testing.assert_allclose(obs, move, rtol=1e-6)
        assert bool(terminated) == (abs(float(reward)) < 0.01)
    never = make(goal_tolerance=None)
    obs, _, _, terminated, _ = never.env.step_env(
        jax.random.key(0), state, 10 * task.goal, task
    )
    np.testing.assert_array_equal(obs, task.goal)
    assert not terminated


def test_sparse_point_navigation():
    tasks = point_navigation.sparse_point_navigation()
    shaped = point_navigation.sparse_point_navigation(train_reward="shaped")
    mixed = point_navigation.sparse_point_navigation(train_reward="mixed")
    keys = jax.random.split(jax.random.key(0), 2000)
    train = jax.vmap(tasks.sample)(keys)
    heldout = jax.vmap(tasks.sample_heldout)(keys)
    angles = [np.arctan2(*np.asarray(t.goal).T[::-1]) for t in (train, heldout)]
    indices = [set(np.round(a * 99 / np.pi).astype(int).tolist()) for a in angles]
    assert [len(i) for i in indices] == [80, 20]
    assert indices[0] | indices[1] == set(range(100))
    assert np.all(train.dense)
    assert not np.any(heldout.dense)
    np.testing.assert_allclose(np.linalg.norm(train.goal, axis=-1), 1.0, rtol=1e-6)

    either = jax.vmap(mixed.sample)(keys)
    assert 0.45 < np.mean(either.dense) < 0.55
    assert not np.any(jax.vmap(mixed.sample_heldout)(keys).dense)
    # Neither the goals' share nor the reward depends on the other.
    near = np.abs(np.arctan2(*np.asarray(either.goal).T[::-1]) - np.pi / 2) < 0.8
    assert abs(np.mean(either.dense[near]) - np.mean(either.dense[~near])) < 0.1

    cases = (tasks, train), (tasks, heldout), (shaped, train), (mixed, either)
    for family, batch in cases:
        batch = jax.tree.map(lambda x: x[:300], batch)
        walked, _ = walk_straight(family, batch)
        oracle = jax.vmap(partial(family.oracles["straight to goal"], None))(batch)
        np.testing.assert_allclose(oracle, walked, atol=2e-5)

    def reward(distance, task, tasks=tasks):
        goal = task.goal / jnp.linalg.norm(task.goal)
        state = tasks.env.reset_env(jax.random.key(0), task)[1]
        state = state.replace(position=goal * (1 - distance))
        return tasks.env.step_env(jax.random.key(0), state, jnp.zeros(2), task)[2]

    sparse, dense = (jax.tree.map(lambda x: x[0], t) for t in (heldout, train))
    distances = jnp.array([0.0, 0.15, 0.25, 1.0])
    np.testing.assert_allclose(
        jax.vmap(reward, (0, None))(distances, sparse), [1.0, 0.85, 0, 0], atol=1e-6
    )
    np.testing.assert_allclose(
        jax.vmap(reward, (0, None))(distances, dense), -distances, atol=1e-6
    )
    both = jax.vmap(partial(reward, task=dense, tasks=shaped))(distances)
    np.testing.assert_allclose(both, [1.0, 0.835, -0.025, -0.1], atol=1e-6)


# Bandits


@pytest.mark.parametrize("kind", ["bernoulli", "gaussian"])
def test_bandit_rewards(kind):
    make = {"bernoulli": bandit.bernoulli_bandit, "gaussian": bandit.gaussian_bandit}
    tasks = make[kind]()
    task = tasks.sample(jax.random.key(3))

    @jax.jit
    @partial(jax.vmap, in_axes=(None, 0))
    @partial(jax.vmap, in_axes=(0, None))
    def pull(key, arm):
        state = tasks.env.reset_env(key, task)[1]
        return tasks.env.step_env(key, state, arm, task)[2]

    n = 20_000
    rewards = np.asarray(pull(jax.random.split(jax.random.key(0), n), jnp.arange(5)))
    variance = {"bernoulli": task.mean * (1 - task.mean), "gaussian": 0.3**2}[kind]
    errors = (rewards.mean(1) - task.mean) / np.sqrt(variance / n)
    assert np.all(np.abs(errors) < 4)
    np.testing.assert_allclose(rewards.var(1), variance * np.ones(5), rtol=0.06)
    if kind == "bernoulli":
        assert set(np.unique(rewards)) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("family", "arms", "optimum"),
    [
        ("easy", {0.1, 0.9}, 90.0),
        ("medium", {0.25, 0.75}, 75.0),
        ("hard", {0.4, 0.6}, 60.0),
        ("uniform", None, 75.0),
    ],
)
def test_correlated_bandit(family, arms, optimum):
    tasks = bandit.correlated_bandit(family=family)
    keys = jax.random.split(jax.random.key(0), 2000)
    batch = jax.vmap(tasks.sample)(keys)
    np.testing.assert_allclose(batch.mean.sum(-1), 1.0, rtol=1e-6)
    # P(arm 1 is the better one) = ½: a standard error is 0.011.
    assert abs((batch.mean[:, 0] > 0.5).mean() - 0.5) < 0.045
    oracle = jax.vmap(tasks.oracles["optimal arm"])(keys, batch)
    if arms:
        np.testing.assert_allclose(np.unique(batch.mean), sorted(arms), rtol=1e-6)
        np.testing.assert_allclose(oracle, optimum, rtol=1e-6)
    else:
        # max(p, 1 - p) ~ U[½, 1]: its standard error is 100 / √(48 n) = 0.32.
        assert abs(oracle.mean() - optimum) < 1.3


def test_informative_bandit():
    tasks = bandit.informative_bandit()
    keys = jax.random.split(jax.random.key(0), 500)
    mean = np.asarray(jax.vmap(tasks.sample)(keys).mean)
    target = mean[:, :-1].argmax(-1)
    assert set(target.tolist()) == set(range(10))
    np.testing.assert_array_equal(
        np.sort(mean[:, :-1])[:, [0, -2, -1]], [[1, 1, 5]] * 500
    )
    np.testing.assert_allclose(mean[:, -1], 0.1 * (target + 1), rtol=1e-6)
    assert tasks.oracles["optimal arm"](None, tasks.sample(keys[0])) == 25.0


@pytest.mark.parametrize(
    "build",
    [
        partial(bandit.bernoulli_bandit, num_arms=3, horizon=4),
        partial(bandit.correlated_bandit, family="easy", horizon=4),
        partial(bandit.gaussian_bandit, num_arms=3, horizon=4),
        partial(tabular_mdp, num_states=3, num_actions=2, horizon=3),
        lambda: task_conditioned(tabular_mdp(num_states=3, num_actions=2, horizon=3)),
        partial(two_step, reward_probability=0.8),
    ],
    ids=["bernoulli", "correlated", "gaussian", "mdp", "mdp shown", "two-step"],
)
def test_expected_rewards_are_the_means_of_what_is_drawn(build):
    tasks = build()
    policy, key = UniformPolicy(tasks.action_space), jax.random.key(4)
    task = tasks.sample(key)

    def one(key):
        return rollout.collect(key, tasks, policy, Agent(()), task, num_episodes=1)[1]

    steps = jax.jit(jax.vmap(one))(jax.random.split(key, 4000))
    steps = jax.tree.map(lambda x: x.reshape(-1, *x.shape[3:]), steps)
    expected = tasks.expected_reward(task, steps)
    # By what is seen and done: noise is all that is left, and the means differ.
    kinds = steps.obs[:, :3].argmax(-1) * 10 + steps.action
    means = []
    for kind in np.unique(kinds):
        drawn, mean = steps.reward[kinds == kind], expected[kinds == kind]
        assert np.ptp(mean) == 0
        error = np.std(drawn) / np.sqrt(len(drawn))
        np.testing.assert_allclose(np.mean(drawn), mean[0], atol=5 * error + 1e-6)
        means.append(float(mean[0]))
    assert np.ptp(means) > 0.1
    assert np.var(expected) < np.var(steps.reward)


def gittins_by_enumeration(successes, failures, num_left):
    """The largest E[Σr] / E[τ] over every stopping rule, in exact arithmetic."""
    # A rule says at which posteriors after 1, …, n - 1 further pulls to go on.
    nodes = [(n, s) for n in range(1, num_left) for s in range(n + 1)]
    best = Fraction(0)
    for goes_on in itertools.product([False, True], repeat=len(nodes)):
        rule = dict(zip(nodes, goes_on, strict=True))
        reach, reward, pulls = {0: Fraction(1)}, Fraction(0), Fraction(0)
        for n in range(num_left):
            following = {}
            for s, probability in reach.items():
                if n and not rule[n, s]:
                    continue
                p = Fraction(1 + successes + s, 2 + successes + failures + n)
                reward += probability * p
                pulls += probability
                following[s + 1] = following.get(s + 1, 0) + probability * p
                following[s] = following.get(s, 0) + probability * (1 - p)
            reach = following
        best = max(best, reward / pulls)
    return best


def test_gittins_indices():
    indices = gittins_indices(8)
    assert indices[1, 0, 0] == 0.5
    # Go on after a success alone: (½ + ½ · ⅔) / (1 + ½).
    assert indices[2, 0, 0] == pytest.approx(5 / 9, abs=1e-15)
    for num_left, (s, f) in itertools.product(
        [2, 3, 4], [(0, 0), (2, 0), (0, 3), (1, 3)]
    ):
        expected = float(gittins_by_enumeration(s, f, num_left))
        assert indices[num_left, s, f] == pytest.approx(expected, abs=1e-14)
    # Where, and only where, n pulls can be left after s + f, there is an index.
    n, s, f = np.indices(indices.shape)
    np.testing.assert_array_equal(np.isfinite(indices), (n > 0) & (s + f + n <= 8))
    # A longer horizon leaves the shorter one's indices as they are.
    longer = gittins_indices(12)[:9, :8, :8]
    np.testing.assert_allclose(np.where(np.isnan(indices), np.nan, longer), indices)


def test_gittins_learner():
    tasks = bandit.bernoulli_bandit(num_arms=5, horizon=10)
    keys = jax.random.split(jax.random.key(0), 40_000)

    @jax.jit
    def run(keys):
        batch = jax.vmap(tasks.sample)(keys)
        keys = jax.vmap(partial(jax.random.fold_in, data=1))(keys)
        return jax.vmap(tasks.oracles["Gittins index"])(keys, batch)

    returns = np.asarray(run(keys))
    standard_error = returns.std() / np.sqrt(len(keys))
    assert standard_error < 0.01
    # The exact Bayes optimum is a ceiling, and the index comes within half a percent.
    assert returns.mean() < 6.659988 + 3 * standard_error
    assert returns.mean() > 6.659988 * 0.995 - 3 * standard_error
    assert set(bandit.bernoulli_bandit(horizon=101).oracles) == {"optimal arm"}


# Tabular MDPs


def test_tabular_mdp_dynamics():
    tasks = tabular_mdp()
    task = tasks.sample(jax.random.key(0))
    n = 5000
    policy = UniformPolicy(Discrete(5))

    @jax.jit
    def run(key):
        _, trajectories = rollout.collect(
            key, tasks, policy, Agent(()), task, num_episodes=n
        )
        return rollout.episode_returns(trajectories), trajectories.next_obs[:, -1]

    returns, last_obs = jax.tree.map(np.asarray, run(jax.random.key(1)))
    transition = np.asarray(task.transition, np.float64).mean(1)
    reward = np.asarray(task.mean_reward, np.float64).mean(1)
    occupancy, expected = np.eye(10)[0], 0.0
    for _ in range(10):
        expected += occupancy @ reward
        occupancy = occupancy @ transition
    assert abs(returns.mean() - expected) < 4 * returns.std() / np.sqrt(n)
    error = (last_obs.mean(0) - occupancy) / np.sqrt(occupancy * (1 - occupancy) / n)
    assert np.all(np.abs(error) < 4)
    # Variance of the noise alone: 10 steps of 1.
    assert returns.var() > 10


def test_tabular_mdp_tasks_and_oracle():
    tasks = tabular_mdp()
    keys = jax.random.split(jax.random.key(0), 2000)

    @jax.jit
    def run(keys):
        batch = jax.vmap(tasks.sample)(keys)
        return batch, jax.vmap(tasks.oracles["value iteration"])(keys, batch)

    batch, optimum = jax.tree.map(np.asarray, run(keys))
    np.testing.assert_allclose(batch.transition.sum(-1), 1.0, rtol=1e-5)
    # E p² = 2 / (S (S + 1)) under Dirichlet(1, …, 1).
    np.testing.assert_allclose((batch.transition**2).mean(), 2 / 110, rtol=0.01)
    np.testing.assert_allclose(batch.mean_reward.mean(), 1.0, atol=0.015)
    np.testing.assert_allclose(batch.mean_reward.std(), 1.0, atol=0.015)
    # 21.82 ± 0.07 over 1000 others; 0.05 here.
    assert abs(optimum.mean() - 21.82) < 3 * np.hypot(0.07, 0.05)

    transition, reward = batch.transition[0], batch.mean_reward[0]
    value = np.zeros(10)
    for _ in range(10):
        value = np.max(
            [
                [reward[s, a] + transition[s, a] @ value for a in range(5)]
                for s in range(10)
            ],
            axis=1,
        )
    assert optimum[0] == pytest.approx(value[0], rel=1e-5)
    _, q = value_iteration(transition, reward, horizon=10)
    assert q.shape == (10, 10, 5)
    np.testing.assert_allclose(q[-1], reward)


# Grid navigation


def grid_tables(tasks, cells, goals):
    """Returns what moves show, pay and end, `[G, 25, 5]`, and the oracle `[G]`."""
    task = tasks.sample(jax.random.key(0))
    batch = jax.vmap(lambda goal: task.replace(goal=goal))(goals)

    @jax.jit
    def tables(batch):
        def step(task, cell, action):
            key = jax.random.key(0)
            state = tasks.env.reset_env(key, task)[1].replace(cell=cell)
            obs, _, reward, terminated, _ = tasks.env.step_env(key, state, action, task)
            return obs, reward, terminated

        step = jax.vmap(step, (None, None, 0))
        step = jax.vmap(jax.vmap(step, (None, 0, None)), (0, None, None))
        oracle = jax.vmap(lambda task: tasks.oracles["known goal"](None, task))(batch)
        return *step(batch, cells, jnp.arange(5)), oracle

    return [np.asarray(x) for x in tables(batch)]


@pytest.mark.parametrize(("dense", "known"), [(False, 11.0714), (True, 9.5333)])
def test_grid_navigation_is_exact(dense, known):
    tasks = grid_navigation.grid_navigation(
        observation="coordinates", dense_reward=dense
    )
    goals = grid_navigation.goal_cells()
    assert {tuple(g) for g in goals.tolist()} == set(
        itertools.product(range(5), repeat=2)
    ) - {(0, 0), (0, 1), (1, 0), (1, 1)}
    sampled = jax.vmap(tasks.sample)(jax.random.split(jax.random.key(0), 500)).goal
    assert {tuple(g) for g in sampled.tolist()} == {tuple(g) for g in goals.tolist()}

    cells = np.array(list(itertools.product(range(5), repeat=2)), np.int32)
    obs, reward, terminated, oracle = grid_tables(tasks, cells, goals)
    assert not terminated.any()
    following = np.zeros((25, 5), int)
    for i, (x, y) in enumerate(cells):
        moves = [(x, y), (x, y + 1), (x + 1, y), (x, y - 1), (x - 1, y)]
        for a, (to_x, to_y) in enumerate(moves):
            inside = 0 <= to_x < 5 and 0 <= to_y < 5
            to = (to_x, to_y) if inside else (x, y)
            assert tuple(obs[0, i, a]) == to
            following[i, a] = 5 * to[0] + to[1]
    away = np.abs(cells[following] - goals[:, None, None]).sum(-1)
    elsewhere = -away / 5 if dense else -0.1
    np.testing.assert_allclose(reward, np.where(away, elsewhere, 1.0), rtol=1e-6)

    # Value iteration and policy evaluation over the tables, goal by goal.
    best, uniform = np.zeros((2, len(goals), 25))
    for _ in range(15):
        best = np.max(reward + best[:, following], axis=-1)
        uniform = np.mean(reward + uniform[:, following], axis=-1)
    np.testing.assert_allclose(oracle, best[:, 0], rtol=1e-5)
    assert oracle.mean() == pytest.approx(known, abs=1e-4)
    if not dense:
        assert uniform[:, 0].mean() == pytest.approx(-1.167, abs=2e-3)
    else:  # of the sparse one there are too many beliefs
        first = first_episode_optimum(reward, following)
        assert first == pytest.approx(6.8762, abs=1e-4)


def first_episode_optimum(reward, following):
    """Returns what an agent gets that knows what each of equally likely goals pays.

    By enumeration of beliefs: which goals would have paid what was paid.
    """

    @cache
    def value(cell, possible, left):
        return 0.0 if left == 0 else max(q(cell, a, possible, left) for a in range(5))

    def q(cell, action, possible, left):
        told = {}
        for goal in possible:
            told.setdefault(float(reward[goal, cell, action]), []).append(goal)
        after = int(following[cell, action])
        return sum(
            len(goals) / len(possible) * (paid + value(after, tuple(goals), left - 1))
            for paid, goals in told.items()
        )

    return value(0, tuple(range(len(reward))), 15)


def test_a_grid_that_shows_its_goal_first_shows_where_one_is_from_then_on():
    tasks = grid_navigation.grid_navigation(goal_first=True)
    task = tasks.sample(jax.random.key(0)).replace(goal=jnp.array([3, 1]))
    obs, state = tasks.env.reset_env(None, task)
    assert np.flatnonzero(obs).tolist() == [16]
    obs, state, *_ = tasks.env.step_env(None, state, 0, task)
    assert np.flatnonzero(obs).tolist() == [0]
    # What an episode shows is then not what another goal would have shown.
    assert (tasks.relabel, tasks.achieved) == (None, None)


def test_a_grid_shows_cells_one_hot():
    tasks = grid_navigation.grid_navigation()
    task, one_hot = tasks.sample(jax.random.key(0)), tasks.env
    state = one_hot.reset_env(None, task)[1]
    shown = [
        one_hot.step_env(None, state.replace(cell=jnp.array(cell)), 2, task)[0]
        for cell in [(0, 0), (1, 3), (4, 4)]
    ]
    np.testing.assert_array_equal(np.argmax(shown, -1), [5, 13, 24])
    np.testing.assert_array_equal(np.sum(shown, -1), 1.0)


# The two-step task


def test_two_step_dynamics():
    tasks = two_step()
    task = tasks.sample(jax.random.key(0))
    batch = jax.vmap(lambda good: task.replace(good=good))(jnp.array([1, 2]))

    @jax.jit
    @partial(jax.vmap, in_axes=(0, None, None))
    @partial(jax.vmap, in_axes=(None, 0, None))
    @partial(jax.vmap, in_axes=(None, None, 0))
    def run(task, action, key):
        state = tasks.env.reset_env(key, task)[1]
        keys = jax.random.split(key)
        obs, state, first, early, _ = tasks.env.step_env(keys[0], state, action, task)
        _, _, second, late, _ = tasks.env.step_env(keys[1], state, action, task)
        return jnp.argmax(obs), first, second, early, late

    n = 20_000
    stage, first, second, early, late = jax.tree.map(
        np.asarray, run(batch, jnp.arange(2), jax.random.split(jax.random.key(1), n))
    )
    assert not early.any()
    assert late.all()
    assert not first.any()
    # Four standard errors of a frequency over n episodes are at most 0.014.
    for good, action in itertools.product(range(2), repeat=2):
        common = (stage[good, action] == action + 1).mean()
        assert common == pytest.approx(0.75, abs=0.014)
        in_good = stage[good, action] == good + 1
        paid = second[good, action]
        assert paid[in_good].mean() == pytest.approx(0.9, abs=0.014)
        assert paid[~in_good].mean() == pytest.approx(0.1, abs=0.014)
        expected = 0.7 if good == action else 0.3
        assert paid.mean() == pytest.approx(expected, abs=0.014)
    assert tasks.oracles["known state"](None, task) == pytest.approx(0.7)


# Classic control


def test_classic_control_physics():
    tasks = classic_control.cartpole(masscart=(0.5, 2.0))
    batch = jax.vmap(tasks.sample)(jax.random.split(jax.random.key(0), 200))
    assert np.all((batch.masscart >= 0.5) & (batch.masscart <= 2.0))
    assert np.all((batch.length >= 0.25) & (batch.length <= 0.75))
    assert np.unique(batch.force_mag).size > 150
    np.testing.assert_array_equal(batch.gravity, np.float32(9.8))
    np.testing.assert_allclose(
        batch.total_mass, batch.masscart + batch.masspole, rtol=1e-6
    )
    np.testing.assert_allclose(
        batch.polemass_length, batch.masspole * batch.length, rtol=1e-6
    )
    # Independent draws: a standard error of the correlation is 0.07.
    assert abs(np.corrcoef(batch.length, batch.masspole)[0, 1]) < 0.28


def test_crossed_wires():
    tasks = classic_control.cartpole(crossed_wires=0.25)
    batch = jax.vmap(tasks.sample)(jax.random.split(jax.random.key(0), 400))
    force, crossed = np.abs(batch.force_mag), np.asarray(batch.force_mag) < 0
    assert np.all((force >= 5.0) & (force <= 15.0))
    # Standard errors: 0.02 of the fraction, 0.05 of the correlation.
    assert abs(np.mean(crossed) - 0.25) < 0.09
    assert abs(np.corrcoef(force, crossed)[0, 1]) < 0.2

    # Left with crossed wires is right without.
    task = jax.tree.map(lambda x: x[0], batch)
    other = task.replace(force_mag=-task.force_mag)
    _, state = tasks.env.reset_env(jax.random.key(0), task)
    left, right = (
        tasks.env.step_env(jax.random.key(0), state, action, task)[0]
        for action in (0, 1)
    )
    crossed_left, *_ = tasks.env.step_env(jax.random.key(0), state, 0, other)
    np.testing.assert_array_equal(crossed_left, right)
    assert not np.array_equal(crossed_left, left)


@pytest.mark.parametrize(
    ("factory", "fixed"),
    [
        (
            classic_control.cartpole,
            {"force_mag": 10.0, "length": 0.5, "masspole": 0.1},
        ),
        (classic_control.pendulum, {"length": 1.0, "mass": 1.0}),
        (
            classic_control.acrobot,
            {"link_length": 1.0, "link_mass": 1.0, "link_moi": 1.0},
        ),
        (classic_control.mountain_car, {"force": 0.001, "gravity": 0.0025}),
    ],
)
def test_gymnax_defaults_are_one_task(factory, fixed):
    tasks = factory(**{name: (value, value) for name, value in fixed.items()})
    task = tasks.sample(jax.random.key(0))
    default = tasks.env.default_params.replace(max_steps_in_episode=tasks.horizon)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), task, default)


# Any gymnax environment


def test_gymnax_family_in_five_lines():
    env = CartPole()

    def sample_params(key):
        length = jax.random.uniform(key, minval=0.25, maxval=1.0)
        return env.default_params.replace(length=length, polemass_length=0.1 * length)

    tasks = gymnax_family(env, sample_params)
    assert tasks.horizon == 500
    assert tasks.sample is not tasks.sample_heldout
    assert tasks.sample(jax.random.key(0)).max_steps_in_episode == 500


class Growing(CartPole):
    """Its observation grows by an entry in a step."""

    def step_env(self, key, state, action, params):
        obs, *rest = super().step_env(key, state, action, params)
        return (jnp.append(obs, 0.0), *rest)


class ManyRewards(CartPole):
    def step_env(self, key, state, action, params):
        obs, state, reward, *rest = super().step_env(key, state, action, params)
        return (obs, state, jnp.stack([reward, reward]), *rest)


class NoActions(CartPole):
    def action_space(self, params=None):
        raise NotImplementedError("no actions here")


def constant(env):
    return lambda key: env.default_params


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: gymnax_family(PointRobot(), constant(PointRobot())), "draws .goal"),
        (lambda: gymnax_family(CartPole(), constant(CartPole()), horizon=0), "got 0"),
        (lambda: gymnax_family(CartPole(), lambda key: 3.0), "TypeError"),
        (lambda: gymnax_family(Growing(), constant(CartPole())), "(5,)"),
        (lambda: gymnax_family(ManyRewards(), constant(CartPole())), "scalar reward"),
        (lambda: gymnax_family(NoActions(), constant(CartPole())), "no actions here"),
        (
            lambda: gymnax_family(
                CartPole(),
                constant(CartPole()),
                sample_heldout_params=lambda key: CartPole().default_params.replace(
                    length=jnp.ones(2)
                ),
            ),
            "length",
        ),
    ],
)
def test_gymnax_family_rejects(build, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build()


@pytest.mark.parametrize(
    ("factory", "wrong", "message"),
    [
        *(
            (factory, {"horizon": 0}, "got 0")
            for name, factory in FAMILIES.items()
            if name != "two_step"  # two steps by definition
        ),
        (two_step, {"common": 1.5}, "common"),
        (point_navigation.point_navigation, {"reward": "cubed"}, "'cubed'"),
        (point_navigation.point_navigation, {"action_scale": 0.0}, "action_scale"),
        (point_navigation.point_navigation, {"max_step": -0.1}, "-0.1"),
        (point_navigation.point_navigation, {"goal_tolerance": 0.0}, "goal_tolerance"),
        (point_navigation.point_navigation, {"goal_range": 0.0}, "goal_range"),
        (
            point_navigation.sparse_point_navigation,
            {"num_heldout_goals": 100},
            "100 of 100",
        ),
        (
            point_navigation.sparse_point_navigation,
            {"train_reward": "none"},
            "'none'",
        ),
        (point_navigation.sparse_point_navigation, {"goal_radius": 0.0}, "goal_radius"),
        (bandit.bernoulli_bandit, {"num_arms": 0}, "num_arms"),
        (bandit.gaussian_bandit, {"num_arms": 0}, "num_arms"),
        (bandit.gaussian_bandit, {"noise_std": -1.0}, "-1.0"),
        (bandit.correlated_bandit, {"family": "odd"}, "'odd'"),
        (bandit.informative_bandit, {"num_arms": 2}, "got 2"),
        (tabular_mdp, {"num_states": 0}, "num_states"),
        (tabular_mdp, {"num_actions": 0}, "num_actions"),
        (tabular_mdp, {"reward_std": -1.0}, "reward_std"),
        (tabular_mdp, {"reward_noise_std": float("inf")}, "inf"),
        (grid_navigation.grid_navigation, {"size": 2}, "got 2"),
        (grid_navigation.grid_navigation, {"observation": "pixels"}, "'pixels'"),
        (grid_navigation.grid_navigation, {"dense_reward": 1}, "dense_reward"),
        (grid_navigation.grid_navigation, {"goal_first": 1}, "goal_first"),
        (classic_control.cartpole, {"length": (0.5, 0.2)}, "length"),
        (classic_control.cartpole, {"masspole": (0.0, 0.2)}, "masspole"),
        (classic_control.cartpole, {"crossed_wires": 1.5}, "crossed_wires"),
        (classic_control.pendulum, {"mass": (1.0, float("inf"))}, "inf"),
        (classic_control.acrobot, {"link_mass": (-1.0, 1.0)}, "link_mass"),
        (classic_control.mountain_car, {"force": (2.0, 1.0)}, "force"),
    ],
)
def test_bad_arguments(factory, wrong, message):
    with pytest.raises(ValueError, match=message):
        factory(**wrong)


def test_bad_gittins_horizon():
    with pytest.raises(ValueError, match="got 0"):
        gittins_indices(0)


@pytest.mark.parametrize("start", ["random", "centre"])
@pytest.mark.parametrize("observation", ["one_hot", "coordinates"])
def test_who_knows_the_goal_of_a_dark_room_gets_what_was_published(start, observation):
    """By a plain loop over goals and starts, and by the family's optimal action."""
    tasks = dark_room(start=start, observation=observation)
    cells = list(itertools.product(range(9), repeat=2))
    starts = cells if start == "random" else [(4, 4)]
    exact = {
        goal: np.mean(
            [20 - max(abs(goal[0] - x) + abs(goal[1] - y) - 1, 0) for x, y in starts]
        )
        for goal in cells
    }
    published = {"random": 15.0617, "centre": 16.5432}[start]
    np.testing.assert_allclose(np.mean(list(exact.values())), published, atol=5e-5)

    class Informed(NamedTuple):
        task: object

        def apply(self, params, memory, obs):
            action = tasks.optimal_action(self.task, obs)
            return Categorical(jnp.log(jax.nn.one_hot(action, 5))), 0.0, memory

    def gained(key):
        task = tasks.sample(key)
        agent = Agent((), ())
        _, trajectory = rollout.episode(key, tasks, Informed(task), agent, task)
        key_reset, *_ = jax.random.split(key, 3)
        promised = tasks.oracles["known goal"](key_reset, task)
        return jnp.sum(trajectory.reward), promised

    keys = jax.random.split(jax.random.key(2), 50)
    np.testing.assert_array_equal(*jax.jit(jax.vmap(gained))(keys))


def test_a_fifth_of_a_dark_room_is_held_out():
    seen, heldout = (set(map(tuple, room_goals(heldout=x))) for x in (False, True))
    assert (len(seen), len(heldout)) == (65, 16)
    assert not seen & heldout
    tasks = dark_room()
    keys = jax.random.split(jax.random.key(1), 500)
    for sample, goals in [(tasks.sample, seen), (tasks.sample_heldout, heldout)]:
        drawn = set(map(tuple, np.asarray(jax.vmap(sample)(keys).goal)))
        assert drawn <= goals
        assert len(drawn) > 0.9 * len(goals)


def test_a_ball_is_caught_with_any_order_of_buttons_by_who_knows_it():
    tasks = catch()

    def play(key):
        task = tasks.sample(key)
        obs, state = tasks.reset(key, task)

        def step(carry, _):
            obs, state = carry
            action = tasks.optimal_action(task, obs)
            obs, state, reward, over = tasks.step(key, state, action, task)
            return (obs, state), (reward, over)

        start = jnp.argmax(obs[:8])
        rewards, over = jax.lax.scan(step, (obs, state), length=7)[1]
        return task.buttons, start, rewards, over

    keys = jax.random.split(jax.random.key(0), 200)
    buttons, columns, rewards, over = jax.jit(jax.vmap(play))(keys)
    np.testing.assert_array_equal(np.unique(columns), np.arange(8))
    assert len(np.unique(buttons, axis=0)) == 6
    np.testing.assert_array_equal(rewards, np.eye(7)[np.full(200, 6)])
    np.testing.assert_array_equal(over, np.eye(7)[np.full(200, 6)].astype(bool))
    with pytest.raises(ValueError, match="rows must be at least"):
        catch(rows=3, columns=8)

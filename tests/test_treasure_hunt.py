"""A treasure on a circle: what is seen and paid, and what can be got."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.envs.point_navigation import sparse_point_navigation
from metarl_jax.envs.treasure_hunt import EnvParams, treasure_hunt

KEY = jax.random.key(0)
T = 40
TASKS = treasure_hunt(horizon=T)
START = np.array([0.0, -1.0])
ANGLES = np.radians(np.arange(0, 360, 7))
GOALS = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=-1)


def plain_reward(s, goal, *, treasure=10.0, cost=5.0, height=1.0):
    """As the authors' program says it."""
    if np.linalg.norm(s) <= 0.5:
        return height * (np.linalg.norm(s) - 0.5) - cost
    if np.linalg.norm(s - goal) <= 0.1:
        return treasure
    return -cost * max(1.0, np.linalg.norm(s))


@jax.jit
def act(goal, actions):
    """Takes actions `[T, 2]`; returns what is seen and paid after each."""
    task = TASKS.sample(KEY).replace(goal=goal)

    def step(state, action):
        obs, state, reward, over = TASKS.step(KEY, state, action, task)
        return state, (obs, reward, over)

    obs, state = TASKS.reset(KEY, task)
    return obs, jax.lax.scan(step, state, actions)[1]


def test_what_is_seen_and_paid_is_a_plain_loop_s():
    """On a way over the mountain, along the edges and to the treasure."""
    goal = np.array([0.6, 0.8])
    drawn = np.random.default_rng(0)
    way = [(0.0, 1.0)] * 10 + [(0.6, 0.8)] * 10 + [(0.0, 0.0)] * 2 + [(1.0, 3.0)] * 9
    actions = np.array(way + [(1.0, -0.2)] * (T - len(way)))
    actions += 0.01 * drawn.normal(size=actions.shape)
    first, (obs, reward, over) = jax.tree.map(np.asarray, act(goal, actions))
    np.testing.assert_array_equal(first, [0, -1, 0, 0])
    assert not over.any()
    s, kinds = START, set()
    for t, action in enumerate(actions):
        s = np.clip(s + 0.1 * np.clip(action, -1, 1), -1.5, 1.5)
        on_top = np.linalg.norm(s) < 0.1
        np.testing.assert_allclose(obs[t, :2], s, atol=1e-5)
        np.testing.assert_allclose(obs[t, 2:], goal * on_top, atol=1e-6)
        np.testing.assert_allclose(reward[t], plain_reward(s, goal), rtol=1e-4)
        kinds |= {on_top, np.linalg.norm(s) <= 0.5, reward[t] > 0, s.max() == 1.5}
        kinds.add("far" if reward[t] < -5.6 else "near")
    assert kinds == {True, False, "far", "near"}
    assert np.sum(reward == 10) >= 2


def around(goal):
    """A way to the treasure that leaves the mountain aside: moves `[n, 2]`.

    Along the longer axis at an even speed, along the other in a bow.
    """
    offset, n = goal - START, 1
    while np.hypot(*np.maximum(np.abs(offset) - 0.1 * n, 0)) > 0.1 - 1e-6:
        n += 1
    whole = np.sign(offset) * np.minimum(np.abs(offset), 0.1 * n)
    longer, t = int(abs(whole[1]) >= abs(whole[0])), np.arange(n + 1) / n
    for bow in sorted(np.linspace(-0.9, 0.9, 181), key=abs):
        way = START + whole * t[:, None]
        way[:, 1 - longer] += bow * np.sin(np.pi * t)
        moves, far = np.diff(way, axis=0), np.hypot(*way[1:-1].T)
        if np.abs(moves).max() < 0.1 + 1e-9 and np.all((far > 0.5) & (far < 1 + 1e-6)):
            return moves
    raise AssertionError(f"no way to {goal}")


def test_what_a_known_goal_is_worth_is_reached_by_a_way_around_the_mountain():
    """The bound holds for every way; this one attains it, for goals all around."""
    task = jax.vmap(lambda goal: TASKS.sample(KEY).replace(goal=goal))
    tasks = task(jnp.asarray(GOALS, jnp.float32))
    told = jax.jit(jax.vmap(lambda x: TASKS.oracles["known goal"](None, x)))(tasks)
    actions = np.zeros((len(GOALS), T, 2))
    for i, goal in enumerate(GOALS):
        moves = around(goal)
        actions[i, : len(moves)] = 10 * moves
    rewards = jax.vmap(act)(jnp.asarray(GOALS), jnp.asarray(actions))[1][1]
    np.testing.assert_allclose(rewards.sum(axis=1), told, rtol=1e-5)
    assert len({float(x) for x in told}) > 10


def test_who_climbs_first_sees_the_treasure_and_goes_there():
    """By a plain loop that looks at what is observed alone."""
    oracle = jax.jit(TASKS.oracles["climbs first"])
    for goal in GOALS[1::9]:  # none on an axis, where rounding decides of a step
        s, seen, total = START, None, 0.0
        for _ in range(T):
            apart = (np.zeros(2) if seen is None else seen) - s
            s = s + 0.1 * apart / max(np.abs(apart).max(), 0.1)
            if np.linalg.norm(s) < 0.05:
                seen = goal
            total += plain_reward(s, goal)
        params = TASKS.sample(KEY).replace(goal=jnp.asarray(goal, jnp.float32))
        assert isinstance(params, EnvParams)
        told = oracle(None, params)
        np.testing.assert_allclose(told, total, rtol=1e-4)
        known = TASKS.oracles["known goal"](None, params)
        assert told <= known


def test_treasures_lie_all_around():
    goals = np.asarray(jax.vmap(TASKS.sample)(jax.random.split(KEY, 4000)).goal)
    np.testing.assert_allclose(np.hypot(*goals.T), 1.0, rtol=1e-5)
    angles = np.arctan2(*goals.T) % (2 * np.pi)
    counts = np.histogram(angles, bins=8, range=(0, 2 * np.pi))[0]
    assert np.abs(counts - 500).max() < 5 * np.sqrt(500)


@pytest.mark.parametrize("angle", [0.0, 1.0, np.pi])
def test_the_sparse_half_circle_of_a_hundred_steps_is_the_world_s(angle):
    """HyperX's: paid from the step that comes within 0.2 on, in training as well."""
    tasks = sparse_point_navigation(horizon=100, train_reward="sparse")
    goal = jnp.array([np.cos(angle), np.sin(angle)], jnp.float32)
    task = tasks.sample(KEY).replace(goal=goal)
    assert not task.dense
    total, s = 0.0, np.zeros(2)
    for _ in range(100):
        s = s + np.clip(goal - s, -0.1, 0.1)
        distance = np.linalg.norm(goal - s)
        total += 1 - distance if distance <= 0.2 + 1e-6 else 0.0
    told = tasks.oracles["straight to goal"](None, task)
    np.testing.assert_allclose(told, total, rtol=1e-4)

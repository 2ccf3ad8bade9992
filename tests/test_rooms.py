"""Three rooms: the map, the order of the goals, and what can be got there."""

import itertools
from functools import cache

import jax
import numpy as np
import pytest

from metarl_jax.envs.rooms import BESIDE, CELLS, MIDDLE, NEXT, START, rooms
from metarl_jax.strategies.rooms import bayes_optimal_return

UP, RIGHT, DOWN, LEFT = 1, 2, 3, 4
TASKS = [
    (MIDDLE[a], BESIDE[a, b], MIDDLE[c])
    for a, b, c in itertools.product(range(4), range(4), range(4))
    if a != c
]


def test_the_map_is_three_rooms_and_two_corridors():
    drawn = [
        "".join(
            "#" if (x, y) in {tuple(c) for c in CELLS} else " " for x in range(-7, 8)
        )
        for y in (1, 0, -1)
    ]
    assert drawn == ["###   ###   ###", "#" * 15, "###   ###   ###"]
    for cell, after in zip(CELLS, NEXT, strict=True):
        for move, there in zip(
            [(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)], after, strict=True
        ):
            wanted = tuple(cell + move)
            free = wanted in {tuple(c) for c in CELLS}
            assert tuple(CELLS[there]) == (wanted if free else tuple(cell))


def test_goals_pay_in_their_order_alone():
    tasks = rooms(horizon=60)
    task = tasks.sample(jax.random.key(0))
    # The second in the left room's far lower corner, the third in the row of the first.
    first, second, third = (
        next(i for i, cell in enumerate(CELLS) if tuple(cell) == place)
        for place in ((-1, 1), (-7, -1), (1, 1))
    )
    task = task.replace(goals=np.array([first, second, third], np.int32))
    there = [LEFT] * 7 + [DOWN]
    actions = [RIGHT, UP, 0, DOWN, LEFT, *there]  # the others before the first: nothing
    actions += [UP, *[RIGHT] * 6, UP, 0, DOWN, *[LEFT] * 6, DOWN, 0, UP]
    actions += [*[RIGHT] * 6, UP, RIGHT, RIGHT, 0]
    step = jax.jit(tasks.step)
    _, state = tasks.reset(jax.random.key(0), task)
    rewards = []
    for action in actions:
        _, state, reward, over = step(jax.random.key(1), state, action, task)
        assert not over
        rewards.append(float(reward))
    expected = np.full(len(actions), -0.1)
    num = len(there) + 5
    expected[[num + 7, num + 8]] = 1  # stays
    expected[[num + 16, num + 17]] = 10
    expected[num + 25] = 1  # on the way back
    expected[[num + 27, num + 28]] = 100
    np.testing.assert_allclose(rewards, expected, rtol=1e-6)


def pays(goals, found, cell):
    """The reward and the goals found, as the authors' program says it."""
    if cell == goals[0]:
        return 1.0, max(found, 1)
    if found >= 1 and cell == goals[1]:
        return 10.0, 2
    if found >= 2 and cell == goals[2]:
        return 100.0, 2
    return -0.1, found


@pytest.mark.parametrize("horizon", [3, 9, 22])
def test_what_is_known_and_what_is_not_are_worth_what_a_plain_search_finds(horizon):
    """Over all sets of tasks that agree with what was paid, however it came about."""

    @cache
    def best(cell, time, possible):
        """Possible are tasks, each with what would be found by now in it."""
        if time == horizon:
            return 0.0
        values = []
        for there in set(NEXT[cell].tolist()):
            by_reward = {}
            for index, found in possible:
                reward, now = pays(TASKS[index], found, there)
                by_reward.setdefault(reward, set()).add((index, now))
            values.append(
                sum(
                    len(group)
                    / len(possible)
                    * (reward + best(there, time + 1, frozenset(group)))
                    for reward, group in by_reward.items()
                )
            )
        return max(values)

    tasks = rooms(horizon=horizon)
    oracle = jax.jit(jax.vmap(lambda task: tasks.oracles["known goals"](None, task)))
    batch = jax.vmap(tasks.sample)(jax.random.split(jax.random.key(0), len(TASKS)))
    told = oracle(batch.replace(goals=np.array(TASKS, np.int32)))
    for i in (0, 17, 47):
        expected = best(START, 0, frozenset([(i, 0)]))
        np.testing.assert_allclose(told[i], expected, rtol=1e-5)
    everything = frozenset((i, 0) for i in range(len(TASKS)))
    ours = bayes_optimal_return(horizon)
    np.testing.assert_allclose(ours, best(START, 0, everything), rtol=1e-9)
    assert ours <= np.mean(told) + 1e-6


def test_tasks_are_all_triples_equally_often():
    tasks = rooms()
    drawn = jax.vmap(tasks.sample)(jax.random.split(jax.random.key(1), 9600))
    counts = dict.fromkeys([tuple(map(int, task)) for task in TASKS], 0)
    for goals in np.asarray(drawn.goals).tolist():
        counts[tuple(goals)] += 1
    assert max(abs(n - 200) for n in counts.values()) < 5 * np.sqrt(200)

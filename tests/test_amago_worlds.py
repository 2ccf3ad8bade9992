"""The room with a key and a door, and frozen lakes, against plain loops."""

from collections import deque

import jax
import numpy as np
import pytest

from metarl_jax.envs.meta_frozen_lake import meta_frozen_lake, steps_to_goal
from metarl_jax.envs.room_key_door import room_key_door

KEY = jax.random.key(0)
STAY, UP, RIGHT, DOWN, LEFT = range(5)


def play(tasks, task, actions):
    """Rewards, ends and observations of actions one after the other."""
    step, rows = jax.jit(tasks.step), []
    obs, state = tasks.reset(KEY, task)
    for i, action in enumerate(actions):
        obs, state, reward, ended = step(jax.random.key(i), state, action, task)
        rows.append((float(reward), bool(ended), np.asarray(obs)))
        if ended:
            break
    return rows


def test_the_key_pays_once_and_the_door_then():
    tasks = room_key_door(size=4, horizon=20)
    places = {"start": [1, 1], "key": [1, 2], "door": [2, 1]}
    places = {name: np.array(cell, np.int32) for name, cell in places.items()}
    task = tasks.sample(KEY).replace(**places)
    # The door without the key, the key, the key again, a wall, the door.
    actions = [RIGHT, LEFT, UP, STAY, UP, UP, DOWN, DOWN, RIGHT, LEFT]
    rows = play(tasks, task, actions)
    paid = [reward for reward, _, _ in rows]
    assert paid == [0, 0, 1, 0, 0, 0, 0, 0, 1]
    assert [ended for _, ended, _ in rows] == [False] * 8 + [True]
    cells = [(2, 1), (1, 1), (1, 2), (1, 2), (1, 3), (1, 3), (1, 2), (1, 1), (2, 1)]
    for t, ((_, _, obs), (x, y)) in enumerate(zip(rows, cells, strict=True)):
        np.testing.assert_array_equal(np.flatnonzero(obs[:16]), [4 * x + y])
        np.testing.assert_allclose(obs[16:], [t >= 2, (t + 1) / 20])
    # Actions in another order, and the cell as two numbers.
    tasks = room_key_door(size=4, horizon=20, observation="coordinates")
    moves = np.array([RIGHT, LEFT, DOWN, UP, STAY], np.int32)
    turned = [int(np.flatnonzero(moves == action)[0]) for action in actions]
    again = play(tasks, task.replace(moves=moves), turned)
    assert [reward for reward, _, _ in again] == paid
    np.testing.assert_allclose(again[-1][2], [0.5, 0.25, 1.0, 9 / 20])


@pytest.mark.parametrize("horizon", [3, 8])
def test_who_knows_the_places_gets_what_the_oracle_says(horizon):
    tasks = room_key_door(size=3, horizon=horizon, random_actions=True)

    def episode(key):
        task = tasks.sample(key)

        def step(carry, key):
            obs, state, total, alive = carry
            action = tasks.optimal_action(task, obs)
            obs, state, reward, ended = tasks.step(key, state, action, task)
            total += reward * alive
            return (obs, state, total, alive & ~ended), None

        start = (*tasks.reset(key, task), 0.0, True)
        carry = jax.lax.scan(step, start, jax.random.split(key, horizon))[0]
        return carry[2], tasks.oracles["known places"](key, task)

    got, told = jax.jit(jax.vmap(episode))(jax.random.split(KEY, 300))
    np.testing.assert_array_equal(got, told)
    assert set(np.unique(told)) == ({0, 1, 2} if horizon == 3 else {2})


def fewest_moves(holes):
    """Breadth first from the last cell."""
    size = len(holes)
    found = {(size - 1, size - 1): 0}
    queue = deque(found)
    while queue:
        x, y = queue.popleft()
        for there in ((x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)):
            inside = min(there) >= 0 and max(there) < size
            if inside and not holes[there] and there not in found:
                found[there] = found[x, y] + 1
                queue.append(there)
    return found


def test_every_lake_has_a_way_and_its_length_is_told():
    tasks = meta_frozen_lake(size=5, horizon=8, frozen=0.7)
    lakes = jax.jit(jax.vmap(tasks.sample))(jax.random.split(KEY, 200))
    told = jax.jit(jax.vmap(tasks.oracles["known lake"], (None, 0)))(KEY, lakes)
    steps = jax.jit(jax.vmap(steps_to_goal))(lakes.holes)
    for holes, distance, value in zip(
        np.asarray(lakes.holes), steps, told, strict=True
    ):
        found = fewest_moves(holes)
        for cell in np.ndindex(5, 5):
            assert distance[cell] == found.get(cell, 25)
        assert value == (found[0, 0] <= 8)
    assert 0 < np.mean(told) < 1
    # Three tenths of the 23 cells between the corners, less those that close the way.
    share = np.mean(lakes.holes) * 25 / 23
    assert 0.15 < share < 0.29


@pytest.mark.parametrize("recover", [False, True])
def test_who_falls_begins_anew_or_is_put_back(recover):
    tasks = meta_frozen_lake(size=3, recover=recover)
    holes = np.zeros((3, 3), bool)
    holes[1, 0] = True
    task = tasks.sample(KEY).replace(holes=holes)
    along_x, back_x, along_y, _ = 1, 2, 3, 4
    rows = play(tasks, task, [back_x, along_x])
    fallen = (np.float32(-0.1), False, 0) if recover else (0.0, True, 3)
    assert (rows[1][0], rows[1][1], int(np.argmax(rows[1][2]))) == fallen
    assert rows[0][:2] == (0.0, False)
    rows = play(tasks, task, [along_y, along_y, along_x, along_x, along_x])
    assert [row[:2] for row in rows] == [(0.0, False)] * 3 + [(1.0, True)]
    # With two ways swapped, the same buttons walk the other one; not so back.
    task = task.replace(swapped=np.array(True))
    rows = play(tasks, task, [along_x, along_x, along_y, along_y])
    assert [row[0] for row in rows] == [0.0, 0.0, 0.0, 1.0]


def test_hard_lakes_break_behind_and_blur():
    tasks = meta_frozen_lake(size=4, hard=True, frozen=1.0)

    def walk(key):
        """Along x for three steps and back for three."""
        task = tasks.sample(key).replace(swapped=np.array(False))

        def step(carry, inputs):
            state, alive = carry
            key, action = inputs
            _, new, reward, ended = tasks.step(key, state, action, task)
            off = np.abs(0) + abs(new.seen - new.cell).max()
            return (new, alive & ~ended), (off, new.holes.sum(), ended, reward)

        keys = jax.random.split(key, 4)
        actions = np.array([1, 1, 1, 2])
        _, state = tasks.reset(key, task)
        return jax.lax.scan(step, (state, True), (keys, actions))[1]

    off, broken, ended, reward = jax.jit(jax.vmap(walk))(jax.random.split(KEY, 4000))
    assert np.max(off) == 1
    # A quarter is blurred: in x by one of three, in y at the edge by one of three.
    assert abs(np.mean(off[:, 0] > 0) - 0.25 * (1 - 2 / 3 * 1 / 3 - 0)) < 0.06
    np.testing.assert_allclose(
        np.mean(broken[:, :3], axis=0), [0.33, 0.66, 0.99], atol=0.05
    )
    # The way back is broken in a third of the lakes, and nothing pays.
    assert abs(np.mean(ended[:, 3]) - 0.33) < 0.04
    assert not np.any(ended[:, :3])
    assert not np.any(reward)


def test_lakes_and_rooms_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"frozen must be at least 0\.3"):
        meta_frozen_lake(frozen=0.1)
    with pytest.raises(ValueError, match=r"size must be .* at least 2; got 1"):
        meta_frozen_lake(size=1)
    with pytest.raises(ValueError, match=r"observation .* got 'pixels'"):
        room_key_door(observation="pixels")

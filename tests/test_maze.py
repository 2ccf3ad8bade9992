"""Mazes, held to a plain breadth-first search and a plain union of their cells."""

from collections import Counter, deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.envs.maze import distances, edges, maze, open_sides, spanning_tree

KEY = jax.random.key(0)
STEPS = np.array([[0, 1], [1, 0], [0, -1], [-1, 0]])


def search(open_, start, size):
    """Lengths of shortest paths `[m²]` by a breadth-first search."""
    found, queue = {start: 0}, deque([start])
    while queue:
        cell = queue.popleft()
        for side, (dx, dy) in enumerate(STEPS):
            x, y = divmod(cell, size)
            x, y = x + dx, y + dy
            if open_[cell, side]:
                assert 0 <= x < size, "a wall around the maze is open"
                assert 0 <= y < size, "a wall around the maze is open"
                if (there := x * size + y) not in found:
                    found[there] = found[cell] + 1
                    queue.append(there)
    return np.array([found.get(cell, size**2) for cell in range(size**2)])


@pytest.mark.parametrize("size", [3, 6])
def test_every_maze_is_solvable_and_its_paths_are_those_of_a_search(size):
    tasks = maze(size=size, horizon=40)
    keys = jax.random.split(KEY, 60)
    both = tasks.sample, tasks.sample_heldout
    samples = [jax.jit(jax.vmap(sample))(keys) for sample in both]
    starts = jnp.asarray([0, size + 1])

    @jax.jit
    @jax.vmap
    def told(task):
        lengths = jax.vmap(lambda cell: distances(task.open, cell, size))(starts)
        return lengths, tasks.oracles["shortest path"](KEY, task)

    for batch in samples:
        ours, returns = told(batch)
        for i, (open_, goal) in enumerate(zip(batch.open, batch.goal, strict=True)):
            open_ = np.asarray(open_)
            for j, start in enumerate(np.asarray(starts)):
                np.testing.assert_array_equal(
                    ours[i, j], search(open_, int(start), size)
                )
            length = search(open_, 0, size)[int(goal)]
            assert size <= length < size**2
            # It is paid from the move on that ends on the goal.
            expected = sum(1.0 if t + 1 >= length else -0.1 for t in range(40))
            np.testing.assert_allclose(returns[i], expected, rtol=1e-5)


def test_no_held_out_maze_is_met_in_training():
    tasks = maze(size=3)
    keys = jax.random.split(KEY, 3000)
    met = []
    for sample in (tasks.sample, tasks.sample_heldout):
        batch = jax.jit(jax.vmap(sample))(keys)
        pairs = zip(np.asarray(batch.open), np.asarray(batch.goal), strict=True)
        met.append({(walls.tobytes(), int(goal)) for walls, goal in pairs})
        assert len(met[-1]) > 200
        assert len({goal for _, goal in met[-1]}) >= 5
    assert not met[0] & met[1]


def test_trees_are_trees_and_all_of_them_are_drawn():
    trees = jax.jit(jax.vmap(lambda key: spanning_tree(key, 3)))(
        jax.random.split(KEY, 4000)
    )
    assert np.all(np.sum(trees, axis=-1) == 8)
    drawn = Counter(tree.tobytes() for tree in np.asarray(trees))
    # The grid of 3 × 3 has 192 spanning trees, by Kirchhoff's theorem.
    laplacian = np.zeros((9, 9))
    for a, b in edges(3):
        laplacian[[a, b], [a, b]] += 1
        laplacian[[a, b], [b, a]] -= 1
    assert len(drawn) == round(np.linalg.det(laplacian[1:, 1:])) == 192
    for tree in np.asarray(trees)[:50]:
        open_ = np.asarray(open_sides(jnp.asarray(tree), 3))
        assert search(open_, 0, 3).max() < 9


def test_moves_go_through_open_sides_alone_and_a_shortest_path_pays_what_it_says():
    size = 5
    tasks = maze(size=size, horizon=25)
    task = jax.jit(tasks.sample)(jax.random.key(3))
    open_, goal = np.asarray(task.open), int(task.goal)
    lengths = search(open_, goal, size)
    obs, state = tasks.reset(KEY, task)
    step, total, cell = jax.jit(tasks.step), 0.0, 0
    for _ in range(25):
        walls = np.flatnonzero(~open_[cell])
        if len(walls) and cell != goal:
            _, same, reward, _ = step(KEY, state, 1 + walls[0], task)
            assert int(same.cell) == cell
            np.testing.assert_allclose(reward, -0.1)
        side = -1  # stays at the goal
        for i, (dx, dy) in enumerate(STEPS):
            there = cell + size * dx + dy
            if open_[cell, i] and lengths[there] < lengths[cell]:
                side = i
        obs, state, reward, _ = step(KEY, state, side + 1, task)
        cell = int(state.cell)
        total += float(reward)
        assert obs[cell] == 1
        np.testing.assert_array_equal(obs[size**2 :], open_[cell])
    assert cell == goal
    expected = tasks.oracles["shortest path"](KEY, task)
    np.testing.assert_allclose(total, expected, rtol=1e-5)

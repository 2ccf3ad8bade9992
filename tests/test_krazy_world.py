"""Krazy World against plain loops: what is drawn, what moves do, what can be had."""

from collections import deque
from copy import copy

import jax
import numpy as np
import pytest

from metarl_jax.envs.krazy_world import krazy_world

KEY = jax.random.key(0)
KINDS = ["normal", "goal", "death", "ice", "energy", "transporter"]
SHARES = {"death": 8, "ice": 5, "energy": 5}
MOVES = [(0, 1), (1, 0), (0, -1), (-1, 0)]
SMALL = {
    **{"size": 4, "num_goals": 2, "num_death": 3, "num_ice": 3, "num_energy": 2},
    **{"energy": 3, "energy_gain": 2, "horizon": 6},
}
drawn = pytest.mark.parametrize(
    "options",
    [
        {"random_actions": True, "random_kinds": True, "min_goal_distance": 4},
        # Not a square is left.
        {"size": 4, "num_death": 3, "num_ice": 2, "num_energy": 5},
    ],
)


class Game:
    """An episode, on sets of squares."""

    def __init__(self, task, energy, gain):
        self.task, self.gain, self.left = task, gain, energy
        self.at = tuple(map(int, task.start))
        kinds = {tuple(map(int, cell)): k for cell, k in np.ndenumerate(task.board)}
        self.squares = {cell: KINDS[k] for cell, k in kinds.items()}
        self.met = []
        self.pair = [cell for cell, k in self.squares.items() if k == "transporter"]

    def play(self, action):
        """The reward, and whether the episode ends."""
        dx, dy = MOVES[int(self.task.moves[action])]
        self.left -= 1
        while (ahead := (self.at[0] + dx, self.at[1] + dy)) in self.squares:
            self.at = ahead
            if self.squares[ahead] != "ice":
                break
        here = self.squares[self.at]
        self.met.append(here)
        if here in ("goal", "energy"):
            self.squares[self.at] = "normal"
            self.left += self.gain * (here == "energy")
        if here == "transporter":
            self.at = self.pair[1 - self.pair.index(self.at)]
        return float(here == "goal"), here == "death" or self.left == 0

    def seen(self, radius):
        """What is shown, a number after the other; the whole board without a radius."""
        size, rows = len(self.task.board), []
        x, y = self.at if radius else (0, 0)
        around = range(-radius, radius + 1) if radius else range(size)
        for cell in [(x + i, y + j) for i in around for j in around]:
            row = [0.0] * len(KINDS)
            if cell in self.squares:
                row[int(self.task.channels[KINDS.index(self.squares[cell])])] = 1.0
            rows += row
        return [*rows, *(float(divmod(i, size) == self.at) for i in range(size**2))]


@drawn
def test_boards_are_as_promised(options):
    tasks = krazy_world(**options)
    some = jax.jit(jax.vmap(tasks.sample))(jax.random.split(KEY, 400))
    some = jax.tree.map(np.asarray, some)
    size, least = some.board.shape[1], options.get("min_goal_distance", 2)
    others = [options.get(f"num_{kind}", n) for kind, n in SHARES.items()]
    counts = [size**2 - 5 - sum(others), 3, *others, 2]
    for board, start, pair in zip(
        some.board, some.start, some.transporters, strict=True
    ):
        assert np.bincount(board.ravel(), minlength=6).tolist() == counts
        apart = [start, *np.argwhere(board == KINDS.index("goal"))]
        for i, a in enumerate(apart):
            assert all(np.abs(a - b).sum() >= least for b in apart[:i])
        assert board[tuple(start)] == KINDS.index("normal")
        transporters = np.argwhere(board == KINDS.index("transporter"))
        assert sorted(pair.tolist()) == transporters.tolist()
    # Every kind is everywhere, as often as elsewhere but for chance.
    share = np.mean(some.board[..., None] == np.arange(6), axis=0)
    expected = np.array(counts[2:]) / size**2
    np.testing.assert_allclose(share[..., 2:] - expected, 0, atol=0.13)
    assert np.all(share[..., :2].sum(axis=(0, 1)) > 0)
    for permuted, asked in (("moves", "random_actions"), ("channels", "random_kinds")):
        orders = getattr(some, permuted)
        assert np.all(np.sort(orders) == np.arange(orders.shape[1]))
        assert np.any(orders != orders[0]) == options.get(asked, False)


@pytest.mark.parametrize("observation", ["window", "board"])
def test_episodes_are_a_plain_loop_s(observation):
    options = SMALL | {"num_goals": 1, "num_death": 1, "num_energy": 3, "horizon": 9}
    tasks = krazy_world(
        **options, observation=observation, random_actions=True, random_kinds=True
    )
    actions = np.random.default_rng(0).integers(4, size=(150, 9))

    def episode(key, actions):
        task = tasks.sample(key)
        obs, state = tasks.reset(key, task)

        def step(state, action):
            obs, state, reward, ended = tasks.step(key, state, action, task)
            return state, (obs, reward, ended)

        return task, obs, jax.lax.scan(step, state, actions)[1]

    every = jax.jit(jax.vmap(episode))(jax.random.split(KEY, 150), actions)
    every = jax.tree.map(np.asarray, every)
    ends, met = set(), []
    for i, played in enumerate(actions):
        task, first, (obs, reward, ended) = jax.tree.map(lambda x, i=i: x[i], every)
        game = Game(task, energy=3, gain=2)
        radius = 1 if observation == "window" else 0
        np.testing.assert_array_equal(first, game.seen(radius))
        for t, action in enumerate(played):
            expected, over = game.play(action)
            assert (reward[t], ended[t]) == (expected, over)
            np.testing.assert_array_equal(obs[t], game.seen(radius))
            if over:
                ends.add((t, game.left == 0))
                break
        met += game.met
    # By death, and without energy: early, and late by what energy squares gave.
    assert {(0, False), (2, True), (4, True), (6, True)} <= ends
    assert min(met.count(kind) for kind in KINDS) > 5


def most(task, energy, gain, horizon):
    """The goals of the best episode, breadth first over all that can come about."""
    start = Game(task, energy, gain)
    first = (start.at, frozenset(), energy)
    known, queue, best = {first}, deque([(*first, 0)]), 0
    while queue:
        at, taken, left, steps = queue.popleft()
        for action in range(4 if steps < horizon else 0):
            game = copy(start)
            game.at, game.left, game.met = at, left, []
            game.squares = start.squares | dict.fromkeys(taken, "normal")
            _, over = game.play(action)
            paying = start.squares[game.at] in ("goal", "energy")
            now = taken | {game.at} if paying else taken
            best = max(best, sum(start.squares[cell] == "goal" for cell in now))
            after = (game.at, now, game.left)
            if not over and after not in known:
                known.add(after)
                queue.append((*after, steps + 1))
    return best


@pytest.mark.parametrize(("energy", "horizon"), [(4, 8), (12, 30)])
def test_who_knows_the_board_gets_what_a_plain_search_finds(energy, horizon):
    options = {"size": 4, "num_goals": 3, "num_death": 4, "num_ice": 2}
    options |= {"num_energy": 2, "energy": energy, "energy_gain": 3, "horizon": horizon}
    tasks = krazy_world(**options)

    def board(key):
        task = tasks.sample(key)
        return task, tasks.oracles["known board"](key, task)

    some, told = jax.jit(jax.vmap(board))(jax.random.split(KEY, 30))
    some = jax.tree.map(np.asarray, some)
    each = [jax.tree.map(lambda x, i=i: x[i], some) for i in range(30)]
    found = [most(task, energy, 3, horizon) for task in each]
    np.testing.assert_array_equal(told, found)
    assert min(found) == 0
    assert max(found) == 3


def test_a_goal_that_death_walls_in_is_not_counted():
    options = SMALL | {"energy": 50, "horizon": 50}
    tasks = krazy_world(**options)
    board = np.zeros((4, 4), np.int32)
    board[0, 3], board[3, 3], board[3, 0] = 1, 1, 4
    board[2, 3] = board[3, 2] = 2
    task = tasks.sample(KEY).replace(board=board, start=np.zeros(2, np.int32))
    known = jax.jit(tasks.oracles["known board"])
    assert known(KEY, task) == 1
    # There is a way out of a transporter, which no wall holds.
    board[2, 2] = board[1, 1] = 5
    pair = np.array([[2, 2], [1, 1]], np.int32)
    assert known(KEY, task.replace(transporters=pair)) == 1
    board[2, 2], board[1, 3] = 0, 5
    board[2, 3] = 3  # ice, over which one slides to the goal
    pair = np.array([[1, 3], [1, 1]], np.int32)
    assert known(KEY, task.replace(transporters=pair)) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_goals": 40}, "leave every goal a square of 100; got 40 and 2"),
        ({"min_goal_distance": 9}, "leave every goal a square of 100; got 3 and 9"),
        ({"size": 4, "num_death": 9}, "must fit on 16 squares; got 25"),
        ({"energy": 2**31 - 1}, "energy_of_all_squares"),
        ({"observation": "all"}, "one of window, board; got 'all'"),
    ],
)
def test_boards_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        krazy_world(**options)


def test_a_large_board_has_no_reference_that_takes_long():
    assert krazy_world(size=20, num_energy=20).oracles == {}

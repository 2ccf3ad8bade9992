"""Games as a task has them, beside the games themselves played by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments.minatar.breakout import MinBreakout

from metarl_jax.envs.minatar import GAMES, board_image, minatar

KEY = jax.random.key(0)


@pytest.mark.parametrize("game", list(GAMES))
def test_every_game_is_a_family_of_its_size(game):
    tasks = minatar(game=game, horizon=7, observation="image")
    flat = minatar(game=game, horizon=7).observation.shape
    assert flat == (tasks.observation.size,)
    task = tasks.sample(KEY)
    num_actions, channels = tasks.action_space.n, tasks.observation.shape[-1]
    sizes = {"breakout": (3, 4), "asterix": (5, 4), "freeway": (3, 7)}
    sizes |= {"seaquest": (6, 10), "space-invaders": (4, 6)}
    assert (num_actions, channels) == sizes[game]
    assert sorted(task.buttons) == list(range(num_actions))
    assert sorted(task.channels) == list(range(channels))
    obs, state = jax.eval_shape(tasks.reset, KEY, task)
    new_obs, new, reward, over = jax.eval_shape(tasks.step, KEY, state, 0, task)
    assert (obs.shape, reward.shape, over.dtype) == ((10, 10, channels), (), bool)
    assert new_obs.shape == obs.shape
    assert jax.tree.map(lambda x: x.shape, new) == jax.tree.map(
        lambda x: jnp.shape(x), state
    )


@pytest.fixture(scope="module")
def tasks():
    return minatar(horizon=30, observation="image")


@pytest.mark.parametrize("frames", [1, 2])
def test_a_task_is_the_game_with_other_buttons_colours_and_sides(tasks, frames):
    """Played by hand until the ball is lost, the paddle to the left and back."""
    game = MinBreakout()
    rules = game.default_params
    task = tasks.sample(KEY).replace(
        **{"buttons": jnp.array([2, 0, 1]), "channels": jnp.array([3, 1, 0, 2])},
        **{"sticky": 0.0, "frames": jnp.asarray(frames), "mirrored": jnp.asarray(True)},
    )
    obs, state = jax.jit(tasks.reset)(KEY, task)
    board, hand = game.reset_env(KEY, rules)
    step, by_hand = jax.jit(tasks.step), jax.jit(game.step_env)
    over, played = False, 0
    for buttons in [2, 2, 0] * 10:
        seen = np.asarray(board)[:, ::-1][..., [3, 1, 0, 2]]
        np.testing.assert_array_equal(obs, seen)
        if over:
            break
        obs, state, reward, ended = step(KEY, state, buttons, task)
        paid = 0.0
        for _ in range(frames):
            if not over:
                action = [2, 0, 1][buttons]
                board, hand, one, over, _ = by_hand(KEY, hand, action, rules)
                paid += float(one)
                played += 1
        assert float(reward) == paid
        assert bool(ended) == bool(over)
    assert over
    assert played > 5


def test_a_game_that_is_over_begins_anew_until_the_time_limit(tasks):
    """Beside one that ends: the same until then, and then a first board again."""
    again = minatar(horizon=60, observation="image", restarts=True)
    task = tasks.sample(KEY).replace(sticky=0.0, mirrored=jnp.asarray(False))
    step, step_again = jax.jit(tasks.step), jax.jit(again.step)
    reset = jax.jit(again.reset)
    (obs, state), (same, other) = tasks.reset(KEY, task), reset(KEY, task)
    ended = False
    for t in range(60):
        keys = jax.random.fold_in(KEY, t), state, 0, task
        if not ended:
            obs, state, reward, ended = step(*keys)
        same, other, paid, over = step_again(keys[0], other, 0, task)
        assert not over
        assert other.time == t + 1
        if not ended:
            np.testing.assert_array_equal(obs, same)
            assert paid == reward
        elif state.time == t + 1:
            assert paid == reward
            first = reset(KEY, task)[0]
            assert same.sum() == first.sum()  # all bricks, the ball and the paddle
            assert other.game.ball_y == 3
    assert ended
    assert t > state.time


def test_buttons_stick_as_often_as_the_task_says(tasks):
    task = tasks.sample(KEY).replace(
        sticky=0.3, buttons=jnp.arange(3), frames=jnp.asarray(1)
    )
    _, state = tasks.reset(KEY, task)
    state = state.replace(action=jnp.asarray(2, jnp.int32))

    def taken(key):
        return tasks.step(key, state, 1, task)[1].action

    actions = np.asarray(jax.jit(jax.vmap(taken))(jax.random.split(KEY, 4000)))
    assert set(actions) == {1, 2}
    assert abs(np.mean(actions == 2) - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 4000)


def test_what_is_not_varied_is_the_same_in_every_task():
    tasks = minatar(
        permuted_buttons=False,
        permuted_channels=False,
        mirrored=False,
        most_sticky=0.0,
        most_frames=1,
    )
    batch = jax.jit(jax.vmap(tasks.sample))(jax.random.split(KEY, 20))
    for leaf in jax.tree.leaves(batch):
        assert np.all(leaf == leaf[0])
    varied = jax.jit(jax.vmap(minatar().sample))(jax.random.split(KEY, 200))
    assert len({tuple(np.asarray(row)) for row in varied.buttons}) == 6
    assert len({tuple(np.asarray(row)) for row in varied.channels}) == 24
    assert set(np.asarray(varied.frames)) == {1, 2}
    assert 0.3 < np.mean(varied.mirrored) < 0.7


def test_a_board_is_painted_a_colour_a_channel():
    board = np.zeros((10, 10, 4))
    board[2, 3, 1] = board[4, 5, 3] = 1
    image = board_image(board)
    assert np.count_nonzero(image.any(-1)) == 2
    assert np.any(image[2, 3] != image[4, 5])

"""Catch: a ball falls, a paddle is moved under it (Mnih et al. 2014, bsuite's too)."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from metarl_jax.envs.gymnax_family import gymnax_family
from metarl_jax.memory import check_fits
from metarl_jax.types import TaskDistribution
from metarl_jax.validation import check_at_least, check_choice, check_flags


@struct.dataclass(kw_only=True)
class EnvState(environment.EnvState):
    """What time changes; the ball's column is drawn at the reset."""

    row: jax.Array  # [] int32, of the ball
    column: jax.Array  # [] int32, of the ball
    paddle: jax.Array  # [] int32, its column


@struct.dataclass(kw_only=True)
class EnvParams(environment.EnvParams):
    """The task."""

    buttons: jax.Array  # [3] int32: by how much each moves the paddle


class Catch(environment.Environment[EnvState, EnvParams]):
    """A board with a ball that falls by a row a step, from a column drawn at random.

    Three buttons move the paddle in the lowest row by a column to the left, not at all,
    or to the right. When the ball arrives the episode ends, with a reward of 1 where
    the paddle is, -1 elsewhere. The observation is the board `[rows, columns]`, 1 where
    ball and paddle are.

    Args:
      rows: of the board; an episode has one step less.
      columns: of the board.
    """

    def __init__(self, *, rows: int, columns: int):
        super().__init__()
        self.rows = rows
        self.columns = columns

    def reset_env(self, key, params):
        """Drops a ball; the paddle stands in the middle."""
        del params
        column = jax.random.randint(key, (), 0, self.columns, jnp.int32)
        state = EnvState(
            time=0,
            row=jnp.zeros((), jnp.int32),
            column=column,
            paddle=jnp.asarray(self.columns // 2, jnp.int32),
        )
        return self._board(state), state

    def step_env(self, key, state, action, params):
        """Moves the paddle, then the ball."""
        del key
        paddle = jnp.clip(state.paddle + params.buttons[action], 0, self.columns - 1)
        state = EnvState(
            time=state.time + 1, row=state.row + 1, column=state.column, paddle=paddle
        )
        over = self.is_terminated(state, params)
        caught = jnp.where(state.paddle == state.column, 1.0, -1.0)
        reward = jnp.where(over, caught, 0.0)
        return self._board(state), state, reward, over, {}

    def _board(self, state):
        ball = jnp.zeros((self.rows, self.columns)).at[state.row, state.column].set(1.0)
        return ball.at[-1, state.paddle].set(1.0)

    def is_terminated(self, state, params):
        """Whether the ball has arrived."""
        del params
        return state.row == self.rows - 1

    @property
    def name(self) -> str:
        """Environment name."""
        return "Catch"

    @property
    def num_actions(self) -> int:
        """Number of buttons."""
        return 3

    def action_space(self, params=None):
        """Buttons."""
        del params
        return spaces.Discrete(3)

    def observation_space(self, params):
        """The board."""
        del params
        return spaces.Box(0.0, 1.0, (self.rows, self.columns))


def catch(
    *,
    rows: int = 8,
    columns: int = 8,
    permuted_buttons: bool = True,
    observation: Literal["flat", "image"] = "flat",
) -> TaskDistribution:
    """Builds Catch, with buttons in an order that is to be found out, or in one order.

    Held-out tasks are new draws of the order. The oracle `"known buttons"` catches
    every ball.

    Args:
      rows: of the board; an episode has one step less.
      columns: of the board.
      permuted_buttons: whether buttons stand in an order of their own; otherwise there
        is one task, Catch as it is.
      observation: the board as numbers `[rows · columns]` or as an image of one
        channel.

    Returns:
      The family.

    Raises:
      ValueError: if a side is too short, the ball would arrive before the paddle can,
        or the observation is unknown.
    """
    check_at_least(2, rows=rows, columns=columns)
    check_choice(("flat", "image"), observation=observation)
    check_flags(permuted_buttons=permuted_buttons)
    check_fits(f"a board of rows={rows}, columns={columns}", 4 * rows * columns)
    if rows - 1 < columns // 2:
        raise ValueError(
            f"rows must be at least columns // 2 + 1 = {columns // 2 + 1}, so that the "
            f"paddle can arrive in time; got {rows}"
        )
    moves = jnp.arange(-1, 2, dtype=jnp.int32)

    def sample(key):
        order = jax.random.permutation(key, moves) if permuted_buttons else moves
        return EnvParams(buttons=order)

    def optimal_action(task, obs):
        board = jnp.reshape(obs, (rows, columns))
        ball = jnp.argmax(jnp.sum(board[:-1], axis=0))
        move = jnp.sign(ball - jnp.argmax(board[-1])).astype(jnp.int32)
        return jnp.argmax(task.buttons == move).astype(jnp.int32)

    def encode(board):
        return jnp.ravel(board) if observation == "flat" else board[..., None]

    return gymnax_family(
        Catch(rows=rows, columns=columns),
        sample,
        horizon=rows - 1,
        oracles={"known buttons": lambda key, task: jnp.ones(())},
        optimal_action=optimal_action,
        encode=encode,
        # Where a ball falls is no part of the task.
        allow_resampling=True,
    )

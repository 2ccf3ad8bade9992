"""MinAtar's games with buttons, colours, sides, speed and reliability of their own.

A task is how one of gymnax's games (Young and Tian 2019, arXiv 1903.03176) is played
and seen: which action a button stands for, how probably the last action is repeated
instead (Machado et al. 2018, arXiv 1709.06009), how many frames pass at a time, which
channel of the board is shown as which, and whether the board is mirrored.
"""

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces
from gymnax.environments.minatar.asterix import MinAsterix
from gymnax.environments.minatar.breakout import MinBreakout
from gymnax.environments.minatar.freeway import MinFreeway
from gymnax.environments.minatar.seaquest import MinSeaquest
from gymnax.environments.minatar.space_invaders import MinSpaceInvaders

from metarl_jax.envs.gymnax_family import gymnax_family
from metarl_jax.types import TaskDistribution
from metarl_jax.validation import (
    check_choice,
    check_flags,
    check_fraction,
    check_positive,
)

Game = Literal["breakout", "asterix", "freeway", "seaquest", "space-invaders"]
GAMES = {
    "breakout": MinBreakout,
    "asterix": MinAsterix,
    "freeway": MinFreeway,
    "seaquest": MinSeaquest,
    "space-invaders": MinSpaceInvaders,
}
_NEVER = 10**6  # steps until the games' own time limit


@struct.dataclass(kw_only=True)
class EnvState(environment.EnvState):
    """What time changes."""

    game: environment.EnvState
    action: jax.Array  # [] int32, the last one that was taken, as the game counts it


@struct.dataclass(kw_only=True)
class EnvParams(environment.EnvParams):
    """The task."""

    buttons: jax.Array  # [A] int32, the action that each button stands for
    sticky: jax.Array  # [] how probably the last action is repeated
    frames: jax.Array  # [] int32, that pass in a step
    channels: jax.Array  # [C] int32, the channel that is shown as each
    mirrored: jax.Array  # [] bool, left for right


class Varied(environment.Environment[EnvState, EnvParams]):
    """A game as a task has it; see the module.

    Args:
      game: one of gymnax's.
      most_frames: in a step.
      restarts: whether a game that is over begins anew in the same step.
    """

    def __init__(self, game: environment.Environment, most_frames: int, restarts: bool):
        super().__init__()
        self.game = game
        self.most_frames = most_frames
        self.restarts = restarts
        defaults: Any = game.default_params
        self.rules = defaults.replace(max_steps_in_episode=_NEVER)
        self.shape = tuple(game.observation_space(self.rules).shape)

    def reset_env(self, key, params):
        """Begins a game."""
        board, game = self.game.reset_env(key, self.rules)
        game = jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x)), game)
        state = EnvState(time=0, game=game, action=jnp.zeros((), jnp.int32))
        return self._shown(board, params), state

    def step_env(self, key, state, action, params):
        """Plays the frames of a step; none after the game's end."""
        key_sticky, key_game, key_restart = jax.random.split(key, 3)
        repeats = jax.random.bernoulli(key_sticky, params.sticky)
        action = jnp.where(repeats, state.action, params.buttons[action])

        def frame(carry, inputs):
            number, key = inputs
            board, game, reward, over = carry
            seen, new, paid, ended, _ = self.game.step_env(
                key, game, action, self.rules
            )
            plays = (number < params.frames) & ~over
            new = jax.tree.map(
                lambda x, y: jnp.where(plays, jnp.asarray(x, y.dtype), y), new, game
            )
            board = jnp.where(plays, seen, board)
            reward = reward + jnp.where(plays, paid, 0.0)
            return (board, new, reward, over | (plays & ended)), None

        start = (jnp.zeros(self.shape), state.game, jnp.zeros(()), jnp.asarray(False))
        frames = (
            jnp.arange(self.most_frames),
            jax.random.split(key_game, self.most_frames),
        )
        (board, game, reward, over), _ = jax.lax.scan(
            frame, start, frames, unroll=self.most_frames
        )
        state = EnvState(time=state.time + 1, game=game, action=action)
        obs = self._shown(board, params)
        if self.restarts:
            anew, first = self.reset_env(key_restart, params)
            obs = jnp.where(over, anew, obs)
            begun = first.replace(time=state.time)  # pyright: ignore
            state = jax.tree.map(lambda x, y: jnp.where(over, x, y), begun, state)
            over = jnp.zeros_like(over)
        return obs, state, reward, over, {}

    def _shown(self, board, params):
        board = board.astype(jnp.float32)[..., params.channels]
        return jnp.where(params.mirrored, board[:, ::-1], board)

    def is_terminated(self, state, params):
        """The game's own end, unless it begins anew."""
        del params
        over = self.game.is_terminated(state.game, self.rules)
        return over & (not self.restarts)

    @property
    def name(self) -> str:
        """Environment name."""
        return f"{self.game.name}, varied"

    @property
    def num_actions(self) -> int:
        """Number of buttons."""
        return self.game.num_actions

    def action_space(self, params=None):
        """Buttons."""
        del params
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params):
        """The board, `[10, 10, C]`."""
        del params
        return spaces.Box(0.0, 1.0, self.shape)


def minatar(
    *,
    game: Game = "breakout",
    horizon: int = 100,
    permuted_buttons: bool = True,
    permuted_channels: bool = True,
    mirrored: bool = True,
    most_sticky: float = 0.2,
    most_frames: int = 2,
    restarts: bool = False,
    observation: Literal["flat", "image"] = "flat",
) -> TaskDistribution:
    """Builds tasks of one game.

    Buttons and channels are uniform among all orders, mirrored is one board of two,
    the probability of a repetition is uniform up to its most, and so are the frames of
    a step from 1 on. Held-out tasks are new draws.

    Args:
      game: which.
      horizon: T, steps in an episode.
      permuted_buttons: whether buttons stand for actions in an order of their own.
      permuted_channels: whether channels are shown in an order of their own.
      mirrored: whether boards are mirrored in half of the tasks.
      most_sticky: greatest probability that the last action is repeated.
      most_frames: greatest number of frames in a step.
      restarts: whether a game that is over begins anew, until the time limit: no step
        of an episode is then empty, of which a lost ball leaves most.
      observation: the board as numbers `[100 C]`, which a CPU reads faster,
        or as an image `[10, 10, C]`, which convolutions read.

    Returns:
      The family.

    Raises:
      ValueError: if there is no such game or observation, a count is below 1 or a
        probability outside of [0, 1].
    """
    check_choice(get_args(Game), game=game)
    check_choice(("flat", "image"), observation=observation)
    check_positive(horizon=horizon, most_frames=most_frames)
    check_fraction(most_sticky=most_sticky)
    check_flags(
        permuted_buttons=permuted_buttons,
        permuted_channels=permuted_channels,
        mirrored=mirrored,
        restarts=restarts,
    )
    env = Varied(GAMES[game](), most_frames, restarts)

    def sample(key):
        keys = jax.random.split(key, 5)

        def order(key, num, permuted):
            first = jnp.arange(num, dtype=jnp.int32)
            return jax.random.permutation(key, first) if permuted else first

        return EnvParams(
            buttons=order(keys[0], env.num_actions, permuted_buttons),
            channels=order(keys[1], env.shape[-1], permuted_channels),
            mirrored=jax.random.bernoulli(keys[2], 0.5 * mirrored),
            sticky=jax.random.uniform(keys[3], maxval=most_sticky),
            frames=jax.random.randint(keys[4], (), 1, most_frames + 1, jnp.int32),
        )

    # Games draw at their reset where things begin.
    return gymnax_family(
        env,
        sample,
        horizon=horizon,
        encode=jnp.ravel if observation == "flat" else lambda board: board,
        allow_resampling=True,
    )


def board_image(board: np.ndarray) -> np.ndarray:
    """Paints a board `[10, 10, C]` in colours `[10, 10, 3]`, a colour a channel."""
    hues = np.array(
        [
            *((0.9, 0.6, 0.0), (0.34, 0.71, 0.91), (0.75, 0.75, 0.75)),
            *((0.0, 0.62, 0.45), (0.94, 0.89, 0.26), (0.0, 0.45, 0.7)),
            *((0.84, 0.37, 0.0), (0.8, 0.47, 0.65), (0.5, 0.3, 0.1), (1.0, 1.0, 1.0)),
        ]
    )
    image = np.zeros((*board.shape[:2], 3))
    for channel in range(board.shape[-1]):
        image = np.where(board[..., channel, None] > 0, hues[channel % 10], image)
    return image

"""Navigation of a point in the plane to an unseen goal."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from metarl_jax.envs.gymnax_family import gymnax_family
from metarl_jax.types import TaskDistribution
from metarl_jax.validation import check_above_zero, check_choice, check_positive


@struct.dataclass(kw_only=True)
class EnvState(environment.EnvState):
    """What time changes."""

    position: jax.Array  # [2]


@struct.dataclass(kw_only=True)
class EnvParams(environment.EnvParams):
    """The task."""

    goal: jax.Array  # [2]


@struct.dataclass(kw_only=True)
class SparseEnvParams(EnvParams):
    """The task of `sparse_point_navigation`."""

    dense: jax.Array  # [] bool, whether the reward is not the sparse one


class PointNavigation(environment.Environment[EnvState, EnvParams]):
    """A point that starts at the origin and moves by its action.

    x_{t+1} = x_t + clip(s a_t, -m, m),  d = ‖x_{t+1} - g‖₂.

    The observation is the position `[2]`; the goal is not observed. The transition is
    deterministic.

    Args:
      reward: `(d, params) -> []`.
      action_scale: s. Actions of size m / s reach the largest step.
      max_step: m, the largest move along one axis.
      goal_tolerance: an episode ends where both coordinates are closer than this to
        the goal's; None: never.
    """

    def __init__(
        self,
        *,
        reward: Callable[[jax.Array, Any], jax.Array],
        action_scale: float,
        max_step: float,
        goal_tolerance: float | None,
    ):
        super().__init__()
        self.reward = reward
        self.action_scale = action_scale
        self.max_step = max_step
        self.goal_tolerance = goal_tolerance

    def reset_env(self, key, params):
        """Returns the origin."""
        del key, params
        state = EnvState(time=0, position=jnp.zeros(2))
        return state.position, state

    def step_env(self, key, state, action, params):
        """Moves the point; the reward is of the position after the move."""
        del key
        move = jnp.clip(self.action_scale * action, -self.max_step, self.max_step)
        state = EnvState(time=state.time + 1, position=state.position + move)
        distance = jnp.linalg.norm(state.position - params.goal)
        reward = self.reward(distance, params)
        terminated = self.is_terminated(state, params)
        return state.position, state, reward, terminated, {}

    def is_terminated(self, state, params):
        """Returns whether the goal is reached."""
        if self.goal_tolerance is None:
            return jnp.asarray(False)
        offset = jnp.abs(state.position - params.goal)
        return jnp.all(offset < self.goal_tolerance)

    @property
    def name(self) -> str:
        """Environment name."""
        return "PointNavigation"

    @property
    def num_actions(self) -> int:
        """Dimensions of an action."""
        return 2

    def action_space(self, params=None):
        """Actions beyond the bounds are clipped."""
        del params
        bound = self.max_step / self.action_scale
        return spaces.Box(-bound, bound, (2,))

    def observation_space(self, params):
        """The farthest a point can walk."""
        bound = self.max_step * params.max_steps_in_episode
        return spaces.Box(-bound, bound, (2,))

    def straight_return(self, task: EnvParams, *, horizon: int) -> jax.Array:
        """Computes the return of walking straight to the goal, which is optimal.

        Each axis has its own step limit, so after t steps |x_t - g| is at least
        max(0, |g| - t m) along it. Moving both axes at full speed attains that bound at
        every t, and every reward here decreases with the distance.

        Args:
          task: the goal.
          horizon: T, steps.

        Returns:
          `[]` the largest possible return of one episode.
        """
        steps = jnp.arange(horizon + 1, dtype=jnp.float32)[:, None]
        offset = jnp.maximum(jnp.abs(task.goal)[None, :] - self.max_step * steps, 0.0)
        distance = jnp.linalg.norm(offset[1:], axis=-1)
        reward = jax.vmap(lambda d: self.reward(d, task))(distance)
        if self.goal_tolerance is None:
            return jnp.sum(reward)
        # The offset never grows, so having arrived one step before means having
        # arrived; the first step is taken even from within the tolerance.
        arrived = jnp.all(offset < self.goal_tolerance, axis=-1)
        running = ~arrived[:-1].at[0].set(False)
        return jnp.sum(reward, where=running)


def distance_reward(distance: jax.Array, params: EnvParams) -> jax.Array:
    """Returns -d."""
    del params
    return -distance


def squared_distance_reward(distance: jax.Array, params: EnvParams) -> jax.Array:
    """Returns -d²."""
    del params
    return -jnp.square(distance)


def point_navigation(
    *,
    horizon: int = 100,
    reward: Literal["distance", "squared_distance"] = "distance",
    action_scale: float = 0.1,
    max_step: float = 0.1,
    goal_tolerance: float | None = 0.01,
    goal_range: float = 0.5,
) -> TaskDistribution:
    """Builds the 2-D navigation of Finn et al. 2017, arXiv 1703.03400.

    The goal is uniform over the square [-0.5, 0.5]². The defaults are what the
    published returns (Table 4) were produced with: the paper's text states the squared
    distance, its code uses the distance and scales the policy's output by 0.1 before
    clipping. `action_scale=1.0` clips raw actions, as several re-implementations do;
    it is worth about 7 of return after two adaptation steps. The paper has no split:
    held-out tasks are new goals.

    The oracle `"straight to goal"` is the exact optimum, -0.506 on average.

    Args:
      horizon: T, steps in an episode.
      reward: `"distance"` for -d or `"squared_distance"` for -d².
      action_scale: factor on the policy's output.
      max_step: the largest move along one axis in a step.
      goal_tolerance: an episode ends where both coordinates are closer than this to
        the goal's; None: never.
      goal_range: half the width of the square of goals.

    Returns:
      The family.

    Raises:
      ValueError: if an argument is out of range.
    """
    rewards = {
        "distance": distance_reward,
        "squared_distance": squared_distance_reward,
    }
    check_choice(list(rewards), reward=reward)
    check_positive(horizon=horizon)
    check_above_zero(
        action_scale=action_scale, max_step=max_step, goal_range=goal_range
    )
    if goal_tolerance is not None:
        check_above_zero(goal_tolerance=goal_tolerance)
    env = PointNavigation(
        reward=rewards[reward],
        action_scale=action_scale,
        max_step=max_step,
        goal_tolerance=goal_tolerance,
    )

    def sample(key):
        goal = jax.random.uniform(key, (2,), minval=-goal_range, maxval=goal_range)
        return EnvParams(goal=goal)

    def straight(key, task):
        del key
        return env.straight_return(task, horizon=horizon)

    return gymnax_family(
        env, sample, horizon=horizon, oracles={"straight to goal": straight}
    )


def sparse_point_navigation(
    *,
    horizon: int = 20,
    train_reward: Literal["dense", "shaped", "sparse", "mixed"] = "dense",
    num_goals: int = 100,
    num_heldout_goals: int = 20,
    goal_radius: float = 0.2,
    action_scale: float = 0.1,
    max_step: float = 0.1,
) -> TaskDistribution:
    """Builds the sparse half-circle of Rakelly et al. 2019, arXiv 1903.08254.

    r = 1 - d where d ≤ 0.2 and 0 elsewhere. The goals stand at `num_goals` equally
    spaced angles of [0, π] on the unit half-circle; the last `num_heldout_goals` of a
    fixed permutation are for meta-testing. As in the paper meta-training tasks have the
    dense reward -d and held-out ones the sparse reward: the kind is part of the task,
    `task.dense`; the sparse one is the `revealed_reward`. An episode always lasts the
    whole horizon.

    Who does not know the goal does best by -d in the middle of where it may be, and by
    the sparse reward where it most likely is. The shaped reward r - d / 10 keeps that
    and says everywhere which way to go. A memory that sees only shaped rewards in
    meta-training has not learned to search without them: where they are mixed, half of
    the tasks have r.

    The oracle `"straight to goal"` is the exact optimum of each reward.

    Args:
      horizon: T, steps in an episode.
      train_reward: the reward of meta-training tasks, -d, r - d / 10, r, or either of
        the last two, drawn for every task.
      num_goals: goals in all.
      num_heldout_goals: how many of them only held-out tasks have.
      goal_radius: where the sparse reward begins.
      action_scale: factor on the policy's output.
      max_step: the largest move along one axis in a step.

    Returns:
      The family.

    Raises:
      ValueError: if an argument is out of range.
    """
    check_choice(("dense", "shaped", "sparse", "mixed"), train_reward=train_reward)
    check_positive(
        horizon=horizon, num_goals=num_goals, num_heldout_goals=num_heldout_goals
    )
    if num_heldout_goals >= num_goals:
        raise ValueError(
            "num_heldout_goals must leave a goal for meta-training; got "
            f"{num_heldout_goals} of {num_goals} goals"
        )
    check_above_zero(
        goal_radius=goal_radius, action_scale=action_scale, max_step=max_step
    )

    def reward(distance, params):
        sparse = jnp.where(distance <= goal_radius, 1.0 - distance, 0.0)
        shaped = train_reward in ("shaped", "mixed")
        dense = sparse - distance / 10 if shaped else -distance
        return jnp.where(params.dense, dense, sparse)

    env = PointNavigation(
        reward=reward,
        action_scale=action_scale,
        max_step=max_step,
        goal_tolerance=None,
    )

    angles = np.random.default_rng(0).permutation(np.linspace(0.0, np.pi, num_goals))
    train_angles, heldout_angles = np.split(angles, [num_goals - num_heldout_goals])

    def sampler(angles, kind):
        goals = np.stack([np.cos(angles), np.sin(angles)], axis=-1).astype(np.float32)

        def sample(key):
            dense = jnp.asarray(kind != "sparse")
            if kind == "mixed":
                key, key_kind = jax.random.split(key)
                dense = jax.random.bernoulli(key_kind)
            return SparseEnvParams(goal=jax.random.choice(key, goals), dense=dense)

        return sample

    def straight(key, task):
        del key
        return env.straight_return(task, horizon=horizon)

    def relabel(task, trajectory):
        def reward(position):
            return env.reward(jnp.linalg.norm(position - task.goal), task)

        return jax.vmap(reward)(trajectory.next_obs)

    def sparse_reward(task, trajectory):
        return relabel(task.replace(dense=jnp.zeros((), bool)), trajectory)

    train_goals = np.stack([np.cos(train_angles), np.sin(train_angles)], axis=-1)

    def achieved(key, task, trajectories):
        """Draws one of the goals and a step that was near it."""
        goals = jnp.asarray(train_goals, task.goal.dtype)
        offset = trajectories.next_obs[..., None, :] - goals[None, None]
        near = jnp.linalg.norm(offset, axis=-1) <= goal_radius  # [E, T, G]
        near = jnp.reshape(near & trajectories.mask[..., None], -1)
        chosen = jax.random.categorical(key, jnp.where(near, 0.0, -jnp.inf))
        goal = goals[chosen % len(train_goals)]
        return task.replace(goal=jnp.where(jnp.any(near), goal, task.goal))

    family = gymnax_family(
        env,
        sampler(train_angles, train_reward),
        sample_heldout_params=sampler(heldout_angles, "sparse"),
        horizon=horizon,
        oracles={"straight to goal": straight},
    )
    return family._replace(
        revealed_reward=sparse_reward, relabel=relabel, achieved=achieved
    )

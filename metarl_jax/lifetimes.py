"""Lives of agents: streams of episodes in pieces, and an update after every piece.

What learns by a rule that is itself learned must be seen learning for long: an agent
lives in one task, W copies of it side by side, acts for T steps, is updated by what was
seen, and goes on from where it stands. An episode that ends is followed by the next. An
update is of the kind of `MetaAlgorithm.adapt`, `(key, agent, trajectories [W, T]) ->
agent`, whatever made it: a hand-made rule or a learned one.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.envs.host import HostEnvironment
from metarl_jax.types import (
    Agent,
    Key,
    Observation,
    Policy,
    Task,
    TaskDistribution,
    Trajectory,
)
from metarl_jax.validation import check_policy, check_tasks


class Stream(NamedTuple):
    """Where one copy of an environment stands; its episodes follow one another."""

    obs: Observation
    env_state: Any
    time: jax.Array  # [] int32, steps since the episode began


def begin(key: Key, tasks: TaskDistribution, task: Task) -> Stream:
    """Begins a stream's first episode; batch with `jax.vmap`."""
    start = Stream(*tasks.reset(key, task), jnp.zeros((), jnp.int32))
    return jax.tree.map(_strong, start)


def act(
    key: Key,
    tasks: TaskDistribution,
    policy: Policy,
    agent: Agent,
    task: Task,
    stream: Stream,
    *,
    num_steps: int,
) -> tuple[Stream, Trajectory]:
    """Acts for T steps of one stream, through the ends of episodes; data, constant.

    Every step is taken, so every mask is true. Where `terminated` or `truncated` is,
    the next step is of another episode, whose first observation is not `next_obs`. One
    start is drawn for the episodes that begin in the same piece: resets are seldom, and
    drawing one for every step may cost more than the step.

    Args:
      key: consumed.
      tasks: the family; its horizon is the time limit of an episode.
      policy: how the agent acts; it has no memory.
      agent: who acts.
      task: the environment's params.
      stream: where it stands.
      num_steps: T.

    Returns:
      Where it stands then, and a `Trajectory` of `[T, ...]`.
    """
    params = jax.lax.stop_gradient(agent.params)
    key_reset, key_actions, key_transitions = jax.random.split(key, 3)
    start = begin(key_reset, tasks, task)

    def step(stream, keys):
        key_action, key_transition = keys
        distribution, _, _ = policy.apply(params, agent.memory, stream.obs)
        action = distribution.sample(key_action)
        obs, env_state, reward, terminated = tasks.step(
            key_transition, stream.env_state, action, task
        )
        time = stream.time + 1
        limit = (time >= tasks.horizon) | tasks.env.is_truncated(env_state, task)
        transition = Trajectory(
            obs=stream.obs,
            action=action,
            log_prob=distribution.log_prob(action),
            reward=reward,
            next_obs=obs,
            terminated=terminated,
            truncated=limit & ~terminated,
            mask=jnp.ones((), bool),
        )
        ended = terminated | limit
        stream = jax.tree.map(
            lambda first, later: jnp.where(ended, first, later),
            start,
            Stream(obs, env_state, time),
        )
        return stream, transition

    keys = (
        jax.random.split(key_actions, num_steps),
        jax.random.split(key_transitions, num_steps),
    )
    stream, trajectory = jax.lax.scan(step, stream, keys)
    return jax.lax.stop_gradient((stream, trajectory))


def begin_all(
    key: Key, tasks: TaskDistribution, task: Task, *, num_streams: int
) -> Stream:
    """Begins W streams of one task, leaves `[W, ...]`."""
    keys = jax.random.split(key, num_streams)
    return jax.vmap(lambda key: begin(key, tasks, task))(keys)


def act_all(
    key: Key,
    tasks: TaskDistribution,
    policy: Policy,
    agent: Agent,
    task: Task,
    streams: Stream,
    *,
    num_steps: int,
) -> tuple[Stream, Trajectory]:
    """Acts for T steps of each of W streams, by one agent; trajectories `[W, T]`."""
    num_streams = streams.time.shape[0]

    def one(key, stream):
        return act(key, tasks, policy, agent, task, stream, num_steps=num_steps)

    return jax.vmap(one)(jax.random.split(key, num_streams), streams)


def pieces(trajectories: Trajectory, *, num_steps: int) -> Trajectory:
    """Cuts episodes into pieces as an agent sees them in its life.

    Args:
      trajectories: `[E, T, ...]`.
      num_steps: L, steps of a piece; the last of an episode is padded to it.

    Returns:
      `[E ⌈T / L⌉, L, ...]`.
    """
    horizon = trajectories.mask.shape[1]
    missing = -horizon % num_steps

    def cut(x):
        x = jnp.concatenate([x, jnp.repeat(x[:, -1:], missing, axis=1)], axis=1)
        return x.reshape(-1, num_steps, *x.shape[2:])

    cut_up = jax.tree.map(cut, trajectories)
    taken = jnp.pad(trajectories.mask, ((0, 0), (0, missing)))
    return cut_up._replace(mask=taken.reshape(-1, num_steps))


class Tally(NamedTuple):
    """What pieces of a life gave; sums, each `[]` of one piece."""

    reward: jax.Array
    num_steps: jax.Array
    num_ends: jax.Array  # of episodes, also by the time limit


def tally(trajectories: Trajectory) -> Tally:
    """Counts up a piece, `[W, T]`."""
    mask = trajectories.mask
    ended = mask & (trajectories.terminated | trajectories.truncated)
    reward = jnp.sum(trajectories.reward, where=mask)
    counts = (jnp.sum(x, dtype=reward.dtype) for x in (mask, ended))
    return Tally(reward, *counts)


def reward_rate(count: Tally) -> jax.Array:
    """Returns the mean reward of a step over all pieces that were counted, `[]`."""
    return jnp.sum(count.reward) / jnp.sum(count.num_steps)


def mean_return(count: Tally, *, horizon: int) -> jax.Array:
    """Estimates the mean return of an episode from pieces that hold no whole one.

    The mean reward of a step times the mean length of an episode, steps by ends, which
    is the horizon T where fewer ended than one in T steps. A mean reward alone says
    nothing where every step pays the same until an episode ends.

    Args:
      count: any shape, of pieces that are taken together.
      horizon: T.

    Returns:
      `[]`.
    """
    num_steps = jnp.sum(count.num_steps)
    length = num_steps / jnp.maximum(jnp.sum(count.num_ends), num_steps / horizon)
    return reward_rate(count) * length


def _strong(x: Any) -> jax.Array:
    """Gives a number that Python wrote the type that it has after a step."""
    x = jnp.asarray(x)
    is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return x if is_key else jax.lax.convert_element_type(x, x.dtype)


def check_lives(tasks: TaskDistribution, policy: Policy) -> None:
    """Raises a `ValueError` unless agents can live in these tasks.

    Args:
      tasks: the family; compiled, since a simulator on the host begins an episode when
        it is told to, and not where an array says so.
      policy: without memory.
    """
    check_tasks(tasks)
    check_policy(tasks, policy, parallel_episodes=True)
    if isinstance(tasks.env, HostEnvironment):
        raise ValueError(
            f"{tasks.env.name} is stepped on the host, where episodes do not follow "
            "one another by themselves; a compiled world is required"
        )

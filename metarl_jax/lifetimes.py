"""Lives of agents: streams of episodes in pieces, and an update after every piece.

What learns by a rule that is itself learned must be seen learning for long: an agent
lives in one task, W copies of it side by side, acts for T steps, is updated by what was
seen, and goes on from where it stands. An episode that ends is followed by the next. An
update is of the kind of `MetaAlgorithm.adapt`, `(key, agent, trajectories [W, T]) ->
agent`, whatever made it: a hand-made rule or a learned one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from metarl_jax import tallies, updates
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
from metarl_jax.validation import (
    check_batch,
    check_critic,
    check_divides,
    check_fraction,
    check_policy,
    check_positive,
    check_tasks,
)

AnyLife = TypeVar("AnyLife", bound=Any)


class Stream(NamedTuple):
    """Where one copy of an environment stands; its episodes follow one another."""

    obs: Observation
    env_state: Any
    time: jax.Array  # [] int32, steps since the episode began


class Life(NamedTuple):
    """Where a life is. What else goes on in it, other tuples hold beside these."""

    agent: Agent
    streams: Stream  # [W]
    task: Task


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
    own_starts: bool = False,
) -> tuple[Stream, Trajectory]:
    """Acts for T steps of one stream, through the ends of episodes; data, constant.

    Every step is taken, so every mask is true. Where `terminated` or `truncated` is,
    the next step is of another episode, whose first observation is not `next_obs`.

    Args:
      key: consumed.
      tasks: the family; its horizon is the time limit of an episode.
      policy: how the agent acts; it has no memory.
      agent: who acts.
      task: the environment's params.
      stream: where it stands.
      num_steps: T.
      own_starts: whether every episode's start is drawn anew, as short episodes want
        it. Otherwise those that begin in the same piece begin alike: ends are seldom,
        and drawing a start for every step may cost more than the step.

    Returns:
      Where it stands then, and a `Trajectory` of `[T, ...]`.
    """
    params = jax.lax.stop_gradient(agent.params)
    key_reset, key_actions, key_transitions = jax.random.split(key, 3)
    one_start = None if own_starts else begin(key_reset, tasks, task)

    def step(stream, keys):
        key_action, key_transition, key_start = keys
        start = begin(key_start, tasks, task) if one_start is None else one_start
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
        jax.random.split(key_reset, num_steps) if own_starts else None,
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
    own_starts: bool = False,
) -> tuple[Stream, Trajectory]:
    """Acts for T steps of each of W streams, by one agent; trajectories `[W, T]`."""
    num_streams = streams.time.shape[0]
    options: dict[str, Any] = {"num_steps": num_steps, "own_starts": own_starts}

    def one(key, stream):
        return act(key, tasks, policy, agent, task, stream, **options)

    return jax.vmap(one)(jax.random.split(key, num_streams), streams)


def go_on(
    key: Key, tasks: TaskDistribution, policy: Policy, life: AnyLife, *, num_steps: int
) -> tuple[AnyLife, Trajectory]:
    """Acts for a piece of a life.

    Args:
      key: consumed.
      tasks: the family.
      policy: how the agent acts.
      life: a `NamedTuple` with an `agent`, its `task` and its `streams`.
      num_steps: T.

    Returns:
      The life with its streams where they stand then, and trajectories `[W, T]`.
    """
    streams, trajectories = act_all(
        key, tasks, policy, life.agent, life.task, life.streams, num_steps=num_steps
    )
    return life._replace(streams=streams), trajectories


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


def whole(
    key: Key,
    life: AnyLife,
    once: Callable[[AnyLife, Key], tuple[AnyLife, tallies.Tally]],
    *,
    num_updates: int,
    horizon: int,
) -> tuple[jax.Array, jax.Array]:
    """Lives a life to its end.

    Args:
      key: consumed.
      life: its beginning.
      once: acts for a piece and learns from it.
      num_updates: pieces.
      horizon: T.

    Returns:
      The mean returns of its last tenth, NaN where the agent has ceased to be finite,
      and of its first piece, `[]`.
    """
    life, counts = jax.lax.scan(once, life, jax.random.split(key, num_updates))
    before, after = tallies.ends_of_life(counts, horizon=horizon)
    finite = updates.all_finite(life.agent.params)
    return jnp.where(finite, after, jnp.nan), before


def from_birth(
    key: Key,
    tasks: TaskDistribution,
    policy: Policy,
    fresh: Callable[[Key], Agent],
    learn: Callable[[Key, Agent, Trajectory], Agent],
    *,
    num_streams: int,
    num_steps: int,
    num_updates: int,
) -> tuple[jax.Array, jax.Array]:
    """Lives a life in a new task, from its first agent to its end.

    Args:
      key: consumed.
      tasks: the family, of which a task of meta-training is drawn.
      policy: how the agent acts.
      fresh: `(key) -> agent`, the first one.
      learn: `(key, agent, trajectories [E, T, ...]) -> agent`, of a piece.
      num_streams: E, streams that it acts in at once.
      num_steps: T, steps of each in a piece.
      num_updates: pieces.

    Returns:
      As `whole`.
    """
    key_agent, key_task, key_streams, key_live = jax.random.split(key, 4)
    task = tasks.sample(key_task)
    streams = begin_all(key_streams, tasks, task, num_streams=num_streams)

    def once(life, key):
        key_act, key_learn = jax.random.split(key)
        life, trajectories = go_on(key_act, tasks, policy, life, num_steps=num_steps)
        agent = learn(key_learn, life.agent, trajectories)
        return life._replace(agent=agent), tallies.tally(trajectories)

    life = Life(fresh(key_agent), streams, task)
    return whole(key_live, life, once, num_updates=num_updates, horizon=tasks.horizon)


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


def check_judged_lives(
    tasks: TaskDistribution,
    policy: Policy,
    *,
    num_tasks: int,
    num_episodes: int,
    rollout_length: int,
    discount: float | jax.Array,
    gae_lambda: float | jax.Array,
    task_group_size: int | None,
) -> None:
    """Raises a `ValueError` unless many agents can live there, judged by a critic.

    Args:
      tasks: the family, compiled.
      policy: without memory, with a value.
      num_tasks: N, lives side by side.
      num_episodes: W, streams of each.
      rollout_length: T.
      discount: γ of the advantages.
      gae_lambda: λ of the advantages.
      task_group_size: lives under one `vmap`.
    """
    counts = {"num_tasks": num_tasks, "num_episodes": num_episodes}
    check_positive(**counts, rollout_length=rollout_length)
    check_fraction(discount=discount, gae_lambda=gae_lambda)
    check_divides(num_tasks, task_group_size=task_group_size)
    check_lives(tasks, policy)
    check_critic(tasks, policy)
    check_batch(tasks._replace(horizon=rollout_length), policy, **counts)

"""Acting in an environment. The only place where experience becomes constant data."""

import jax
import jax.numpy as jnp

from metarl_jax.batching import map_tasks
from metarl_jax.types import (
    Agent,
    Key,
    Memory,
    Policy,
    Task,
    TaskDistribution,
    Trajectory,
)
from metarl_jax.validation import check_flags, check_key, check_positive, check_tasks


def remember(policy: Policy, memory: Memory, transition: Trajectory) -> Memory:
    """Shows a policy what came of its action, if it wants to see it.

    Args:
      policy: one with a method `observe(memory, transition) -> memory`; others keep
        their memory as it is.
      memory: as `policy.apply` returned it.
      transition: the step that was taken, with its reward and how it ended: a
        `Trajectory` without a time axis.

    Returns:
      The memory that the next action starts from, in the next episode of the trial too.
    """
    observe = getattr(policy, "observe", None)
    return memory if observe is None else observe(memory, transition)


def held(policy: Policy, goes_on: jax.Array, new: Memory, old: Memory) -> Memory:
    """Returns the new memory where a step counts, the old one elsewhere.

    Args:
      policy: one with a method `hold(goes_on, new, old) -> memory` says how.
      goes_on: `[]` bool.
      new: after the step.
      old: before it.
    """
    hold = getattr(policy, "hold", None)
    if hold is not None:
        return hold(goes_on, new, old)
    return jax.tree.map(lambda x, y: jnp.where(goes_on, x, y), new, old)


def episode(
    key: Key,
    tasks: TaskDistribution,
    policy: Policy,
    agent: Agent,
    task: Task,
    *,
    greedy: bool = False,
) -> tuple[Agent, Trajectory]:
    """Runs one episode, from a reset to its end or the horizon.

    The loop is ours rather than the environment's auto-reset: an auto-reset costs up to
    three times a step and may draw a new task. After the end the environment and the
    memory are frozen and the steps masked, so every field stays finite.

    Here a policy meets an environment: it sees encoded observations, and what it draws
    is recorded as it was drawn, while the environment is given an action within its
    space (`metarl_jax.spaces`).

    Args:
      key: consumed.
      tasks: the family; its environment and horizon T are used.
      policy: how the agent acts.
      agent: its parameters and memory.
      task: the environment's params.
      greedy: whether to act by the distribution's mode instead of a sample.

    Returns:
      The agent with its memory after the episode, and a `Trajectory` of `[T, ...]`.
    """
    # Score-function estimators take data as constants: without this a compiled, and so
    # differentiable, environment leaks a pathwise term through actions into rewards.
    params, initial_memory = jax.lax.stop_gradient((agent.params, agent.memory))
    env, horizon = tasks.env, tasks.horizon
    key_reset, key_actions, key_transitions = jax.random.split(key, 3)
    obs, env_state = tasks.reset(key_reset, task)
    if hasattr(policy, "begin"):
        key_actions, key_begin = jax.random.split(key_actions)
        initial_memory = policy.begin(key_begin, initial_memory)  # pyright: ignore

    def step(carry, inputs):
        env_state, obs, memory, alive = carry
        key_action, key_transition, t = inputs
        distribution, _, next_memory = policy.apply(params, memory, obs)
        action = distribution.mode() if greedy else distribution.sample(key_action)
        next_obs, next_env_state, reward, terminated = tasks.step(
            key_transition, env_state, action, task
        )
        time_limit = (t == horizon - 1) | env.is_truncated(next_env_state, task)
        next_env_state, next_obs = jax.tree.map(
            lambda new, old: jnp.where(alive, new, old),
            (next_env_state, next_obs),
            (env_state, obs),
        )
        transition = Trajectory(
            obs=obs,
            action=action,
            log_prob=distribution.log_prob(action),
            reward=jnp.where(alive, reward, 0),
            next_obs=next_obs,
            terminated=alive & terminated,
            truncated=alive & time_limit & ~terminated,
            mask=alive,
        )
        next_memory = remember(policy, next_memory, transition)
        next_memory = held(policy, alive, next_memory, memory)
        alive = alive & ~(terminated | time_limit)
        return (next_env_state, next_obs, next_memory, alive), transition

    (_, _, memory, _), trajectory = jax.lax.scan(
        step,
        (env_state, obs, initial_memory, jnp.asarray(True)),
        (
            jax.random.split(key_actions, horizon),
            jax.random.split(key_transitions, horizon),
            jnp.arange(horizon),
        ),
    )
    return agent._replace(memory=memory), jax.lax.stop_gradient(trajectory)


def collect(
    key: Key,
    tasks: TaskDistribution,
    policy: Policy,
    agent: Agent,
    task: Task,
    *,
    num_episodes: int,
    greedy: bool = False,
) -> tuple[Agent, Trajectory]:
    """Collects E episodes of one task.

    Without memory the episodes are independent and run side by side. With memory they
    follow one another, as a trial does, and the memory is carried across their ends.

    Args:
      key: consumed.
      tasks: the family.
      policy: how the agent acts.
      agent: who acts.
      task: the environment's params.
      num_episodes: E.
      greedy: whether to act by the distribution's mode.

    Returns:
      The agent with its memory after the last episode, and trajectories
      `[E, T, ...]`.

    Raises:
      ValueError: if `num_episodes` is below 1, or what is given is another thing.
    """
    check_key(key)
    check_tasks(tasks)
    check_positive(num_episodes=num_episodes)
    check_flags(greedy=greedy)
    keys = jax.random.split(key, num_episodes)

    def run(agent, key):
        return episode(key, tasks, policy, agent, task, greedy=greedy)

    if jax.tree.leaves(agent.memory):
        return jax.lax.scan(run, agent, keys)
    return agent, jax.vmap(lambda key: run(agent, key)[1])(keys)


def collect_tasks(
    key: Key,
    tasks: TaskDistribution,
    policy: Policy,
    agents: Agent,
    task_batch: Task,
    *,
    num_episodes: int,
) -> Trajectory:
    """Collects E episodes of each of N tasks, all tasks side by side.

    Args:
      key: consumed.
      tasks: the family.
      policy: how the agents act.
      agents: one for each task, leaves `[N, ...]`.
      task_batch: leaves `[N, ...]`.
      num_episodes: E.

    Returns:
      Trajectories `[N, E, T, ...]`.
    """
    num_tasks = jax.tree.leaves(task_batch)[0].shape[0]

    def one_task(key, agent, task):
        return collect(key, tasks, policy, agent, task, num_episodes=num_episodes)[1]

    return map_tasks(one_task)(jax.random.split(key, num_tasks), agents, task_batch)


def episode_returns(trajectories: Trajectory) -> jax.Array:
    """Returns the undiscounted return of each episode, `[..., T] -> [...]`."""
    return jnp.sum(trajectories.reward, axis=-1, where=trajectories.mask)

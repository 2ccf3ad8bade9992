"""Episodes before and after adaptation, with every state that the world was in."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax import evaluation, rollout
from metarl_jax.runs.experiment import Evaluation, Experiment
from metarl_jax.types import Agent, Key, Policy, State, Task, TaskDistribution
from metarl_jax.types import Trajectory as Episode


class Film(NamedTuple):
    """One episode on one task.

    Attributes:
      title: when in adaptation it was.
      task: what it was in.
      episode: `[T]`, padded.
      states: `[T + 1]`, the environment's at the start and after each step; None of a
        simulator on the host, whose states are its own.
    """

    title: str
    task: Task
    episode: Episode
    states: State | None

    @property
    def num_steps(self) -> int:
        """How many steps were taken."""
        return int(np.sum(self.episode.mask))


def states_of(
    key: Key, tasks: TaskDistribution, policy: Policy, task: Task, episode: Episode
) -> State:
    """Repeats an episode and returns the states that it went through.

    Args:
      key: that the episode was drawn with (`metarl_jax.rollout.episode`).
      tasks: the family.
      policy: who acted; nothing is asked of it again.
      task: the task.
      episode: `[T]`, what happened.

    Returns:
      `[T + 1]`, at the start and after each step; after the end the last.
    """
    del policy
    key_reset, _, key_transitions = jax.random.split(key, 3)
    _, start = tasks.reset(key_reset, task)

    def step(state, inputs):
        key, action, mask = inputs
        _, after, _, _ = tasks.step(key, state, action, task)
        after = jax.tree.map(lambda a, b: jnp.where(mask, a, b), after, state)
        return after, after

    keys = jax.random.split(key_transitions, episode.mask.shape[0])
    _, later = jax.lax.scan(step, start, (keys, episode.action, episode.mask))
    return jax.tree.map(
        lambda first, rest: jnp.concatenate([jnp.asarray(first)[None], rest]),
        start,
        later,
    )


def film(
    key: Key,
    experiment: Experiment,
    agent: Agent,
    protocol: Evaluation,
    *,
    on_host: bool = False,
) -> list[list[Film]]:
    """Films an agent on held-out tasks, before adapting and after.

    Where parameters adapt, an episode of the agent as it was and one after K adaptation
    steps of E episodes. Where a memory does, the first episode of a trial and the last
    of its (K + 1) E; one alone where there is one.

    Args:
      key: decides the tasks (those of an evaluation with this key) and all on them.
      experiment: what was trained.
      agent: where adaptation starts.
      protocol: the counts.
      on_host: whether the simulator is on the host, where states cannot be repeated.

    Returns:
      By task, its films in the order of time.
    """
    tasks, algorithm = experiment.tasks, experiment.algorithm
    remembers = bool(jax.tree.leaves(agent.memory))
    total = (protocol.num_adaptation_steps + 1) * protocol.num_episodes
    inference = experiment.belief is not None

    def shoot(key, agent, task):
        after, episode = rollout.episode(key, tasks, algorithm.policy, agent, task)
        states = ()
        if not on_host:
            states = states_of(key, tasks, algorithm.policy, task, episode)
        return after, (episode, states)

    def one_task(key, task):
        key_first, key_between, key_last = jax.random.split(key, 3)
        if remembers and not inference:
            agent_after, first = shoot(key_first, agent, task)
            if total == 1:
                return (first,)
            if total > 2:
                agent_after, _ = rollout.collect(
                    key_between,
                    tasks,
                    algorithm.policy,
                    agent_after,
                    task,
                    num_episodes=total - 2,
                )
            return first, shoot(key_last, agent_after, task)[1]

        def one_round(agent, key):
            key_collect, key_adapt = jax.random.split(key)
            collected, data = rollout.collect(
                key_collect,
                tasks,
                algorithm.policy,
                agent,
                task,
                num_episodes=protocol.num_episodes,
            )
            return algorithm.adapt(key_adapt, collected, data), None

        keys = jax.random.split(key_between, protocol.num_adaptation_steps)
        adapted, _ = jax.lax.scan(one_round, agent, keys)
        return tuple(
            shoot(key, who, task)[1]
            for key, who in ((key_first, agent), (key_last, adapted))
        )

    key_task, key_run = evaluation.task_keys(key, protocol.num_tasks)
    batch = jax.vmap(tasks.sample_heldout)(key_task)
    shot: Any = jax.device_get(jax.jit(jax.vmap(one_task))(key_run, batch))
    titles = _titles(remembers and not inference, protocol, total)

    def pick(tree, n):
        return jax.tree.map(lambda x: np.asarray(x)[n], tree)

    return [
        [
            Film(
                title,
                pick(batch, n),
                pick(episode, n),
                None if on_host else pick(states, n),
            )
            for title, (episode, states) in zip(titles, shot, strict=True)
        ]
        for n in range(protocol.num_tasks)
    ]


def _titles(in_trial: bool, protocol: Evaluation, total: int) -> list[str]:
    if in_trial:
        return ["the trial"] if total == 1 else ["episode 1", f"episode {total}"]
    count = protocol.num_adaptation_steps
    return ["before adaptation", f"after {count} adaptation step{'s' * (count != 1)}"]

"""One look at an agent: it meets held-out tasks, and all that happens is kept."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax import evaluation, rollout
from metarl_jax.batching import map_tasks
from metarl_jax.envs.conditioned import numbers
from metarl_jax.runs.experiment import Evaluation, Experiment, task_group_size
from metarl_jax.types import Agent, Key, Task, Trajectory


class Look(NamedTuple):
    """What an agent did on N held-out tasks, and who it was.

    Attributes:
      experiment: what was trained.
      agent: where adaptation starts.
      untrained: the same, never trained: the control.
      strangers: it and two more of its kind: a network may be read by chance.
      protocol: the counts: N tasks, E episodes of a round, K adaptation steps.
      key: of what is drawn besides.
      tasks: `[N]`.
      agents: `[N, K + 1]`, before each round; the last after K adaptation steps.
      rounds: `[N, K + 1, E, T]`, what happened in each.
      target: `[N, P]` of what tells one task from another.
      names: P, of these numbers.
      meet: `(agent) -> (agents, rounds)`, what another agent does on these tasks.
    """

    experiment: Experiment
    agent: Agent
    untrained: Agent
    strangers: tuple[Agent, ...]
    protocol: Evaluation
    key: Key
    tasks: Task
    agents: Agent
    rounds: Trajectory
    target: np.ndarray
    names: tuple[str, ...]
    meet: Callable[[Agent], tuple[Agent, Trajectory]]

    @property
    def remembers(self) -> bool:
        """Whether the agent has a memory, which adapts while it acts."""
        return bool(jax.tree.leaves(self.agent.memory))

    @property
    def moves(self) -> bool:
        """Whether adaptation moves parameters."""
        if self.protocol.num_adaptation_steps < 1:
            return False
        leaves = jax.tree.leaves(self.agents.params)
        return any(np.any(leaf[:, 0] != leaf[:, -1]) for leaf in leaves)


def look(key: Key, experiment: Experiment, agent: Agent, protocol: Evaluation) -> Look:
    """Lets an agent adapt to held-out tasks by the one protocol, and keeps everything.

    Args:
      key: as `metarl_jax.evaluation.evaluate` takes it: with the same counts these are
        the very tasks and episodes that it reports.
      experiment: what was trained.
      agent: where adaptation starts.
      protocol: the counts.

    Returns:
      What happened, as arrays of NumPy.
    """
    tasks, algorithm = experiment.tasks, experiment.algorithm

    def one_task(agent, task, key):
        def one_round(agent, key):
            key_collect, key_adapt = jax.random.split(key)
            collected, trajectories = rollout.collect(
                key_collect,
                tasks,
                algorithm.policy,
                agent,
                task,
                num_episodes=protocol.num_episodes,
            )
            adapted = algorithm.adapt(key_adapt, collected, trajectories)
            return adapted, (agent, trajectories)

        keys = jax.random.split(key, protocol.num_adaptation_steps + 1)
        return jax.lax.scan(one_round, agent, keys)[1]

    @jax.jit
    def run(agent):
        key_task, key_run = evaluation.task_keys(key, protocol.num_tasks)
        batch = jax.vmap(tasks.sample_heldout)(key_task)
        mapped = map_tasks(partial(one_task, agent), group_size=task_group_size())
        return batch, *mapped(batch, key_run)

    def meet(agent):
        _, agents, rounds = run(agent)
        return agents, jax.device_get(rounds)

    key_init, key_more = jax.random.split(jax.random.fold_in(key, 2**31 + 1))
    batch, agents, rounds = run(agent)
    target, names = _target(experiment, batch)
    init = jax.jit(algorithm.init)
    strangers = [init(jax.random.fold_in(key_init, i)).agent for i in range(3)]
    return Look(
        experiment,
        agent,
        strangers[0],
        tuple(strangers),
        protocol,
        key_more,
        batch,
        agents,
        jax.device_get(rounds),
        target,
        names,
        meet,
    )


def _target(experiment: Experiment, batch: Task) -> tuple[np.ndarray, tuple[str, ...]]:
    """Returns what varies among tasks `[N, P]`, and what it is called."""
    try:
        target = np.asarray(jax.vmap(experiment.shown or numbers)(batch), float)
    except ValueError:  # a task with no numbers but its time limit
        return np.zeros((len(jax.tree.leaves(batch)[0]), 0)), ()
    names = _names(batch, target.shape[1], experiment.goal is not None)
    varies = target.std(axis=0) > 1e-6 * (1 + np.abs(target).max(axis=0))
    kept = [name for name, keep in zip(names, varies, strict=True) if keep]
    return target[:, varies], tuple(kept)


def _names(batch: Task, count: int, is_goal: bool) -> list[str]:
    if is_goal and count == 2:
        return ["goal x", "goal y"]
    shapes = {
        jax.tree_util.keystr(path, simple=True, separator=" "): np.shape(leaf)[1:]
        for path, leaf in jax.tree_util.tree_leaves_with_path(batch)
        if "max_steps_in_episode" not in jax.tree_util.keystr(path)
    }
    if sum(int(np.prod(shape)) for shape in shapes.values()) != count:
        goal = "goal" in shapes and int(np.prod(shapes["goal"])) == count
        shapes = {"goal" if goal else "task": () if count == 1 else (count,)}
    return [
        name if not shape else f"{name} {i + 1}"
        for name, shape in shapes.items()
        for i in range(int(np.prod(shape)))
    ]


def mean_return(
    look: Look, key: Key, params: Any, task: Task, *, num_episodes: int
) -> jax.Array:
    """Returns the mean return `[]` of parameters on a task; to be mapped over both."""
    agent = Agent(params, look.agent.memory, look.agent.inner_state)
    _, trajectories = rollout.collect(
        key,
        look.experiment.tasks,
        look.experiment.algorithm.policy,
        agent,
        task,
        num_episodes=num_episodes,
    )
    return jnp.mean(rollout.episode_returns(trajectories))


def over_tasks(function: Callable, *arguments: Any) -> Any:
    """Compiles a function of one task and runs it on all, returning NumPy's arrays."""
    return compiled(lambda _, *one: function(*one))((), *arguments)


def compiled(function: Callable) -> Callable:
    """Compiles `(shared, *one) -> pytree` once, to be run on all tasks of `*many`."""

    @jax.jit
    def run(shared, *many):
        mapped = map_tasks(partial(function, shared), group_size=task_group_size())
        return mapped(*many)

    return lambda shared, *many: jax.device_get(run(shared, *many))

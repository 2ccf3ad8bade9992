"""The one evaluation protocol: adaptation curves on held-out tasks.

For every method alike: draw held-out tasks; on each, collect a fixed number of fresh
episodes, report their mean return, adapt on exactly these episodes, and go on, K times,
with a last round that is only reported. So every curve has K + 1 points and begins
before adaptation. Actions are sampled unless `greedy` is set. The number of episodes is
fixed beforehand because the first episodes to *finish* are not a fair sample, and
nothing is tuned or estimated on held-out tasks but by `adapt` itself.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from metarl_jax import rollout
from metarl_jax.batching import map_tasks
from metarl_jax.memory import check_fits, num_bytes
from metarl_jax.promotion import standard_promotion
from metarl_jax.types import (
    Agent,
    Key,
    MetaAlgorithm,
    Policy,
    Task,
    TaskDistribution,
    Trajectory,
)
from metarl_jax.validation import (
    check_agent,
    check_at_least,
    check_batch,
    check_flags,
    check_functions,
    check_key,
    check_methods,
    check_positive,
    check_tasks,
    shown,
)

Adapt = Callable[[Key, Agent, Trajectory], Agent]


def adaptation_rounds(
    key: Key,
    tasks: TaskDistribution,
    policy: Policy,
    adapt: Adapt,
    agent: Agent,
    task: Task,
    *,
    num_episodes: int,
    num_adaptation_steps: int,
    greedy: bool = False,
    record: Callable[[Trajectory], Any] = rollout.episode_returns,
) -> Any:
    """Runs the protocol on one task: K + 1 rounds with an adaptation between them.

    Memory and `inner_state` pass from round to round with the agent, so a trial is the
    whole run; its first round starts from the agent as given.

    Args:
      key: consumed.
      tasks: the family.
      policy: how the agent acts.
      adapt: one adaptation step, from a round's trajectories `[E, T, ...]`.
      agent: where adaptation starts.
      task: the task, any params of the family's environment.
      num_episodes: E, episodes of a round.
      num_adaptation_steps: K.
      greedy: whether to act by the distribution's mode, in the episodes that are
        adapted on too.
      record: what is kept of a round, `[E, T, ...] -> pytree`; the episodes' returns
        `[E]` by default.

    Returns:
      What `record` returned, stacked along a leading `[K + 1]` axis.

    Raises:
      ValueError: if `num_episodes` is below 1 or `num_adaptation_steps` below 0, or the
        policy cannot act as this agent.
    """
    check_key(key)
    check_tasks(tasks)
    check_positive(num_episodes=num_episodes)
    check_at_least(0, num_adaptation_steps=num_adaptation_steps)
    check_flags(greedy=greedy)
    check_functions(adapt=adapt)
    check_agent(tasks, policy, agent, task)

    def one_round(agent, inputs):
        key, last = inputs
        key_collect, key_adapt = jax.random.split(key)
        agent, trajectories = rollout.collect(
            key_collect,
            tasks,
            policy,
            agent,
            task,
            num_episodes=num_episodes,
            greedy=greedy,
        )
        # Not mapped over tasks, so that the branch stays a branch: the last round's
        # adaptation is not computed.
        agent = jax.lax.cond(
            last,
            lambda agent, _: agent,
            lambda agent, trajectories: adapt(key_adapt, agent, trajectories),
            agent,
            trajectories,
        )
        return agent, record(trajectories)

    keys = jax.random.split(key, num_adaptation_steps + 1)
    last = jnp.arange(num_adaptation_steps + 1) == num_adaptation_steps
    return jax.lax.scan(one_round, agent, (keys, last))[1]


def check_protocol(
    tasks: TaskDistribution,
    policy: Policy,
    *,
    num_tasks: int,
    num_episodes: int,
    num_adaptation_steps: int,
    task_group_size: int | None = None,
) -> None:
    """Raises a `ValueError` if a protocol cannot be run on this machine.

    Args:
      tasks: the family.
      policy: how the agent acts.
      num_tasks: N.
      num_episodes: E.
      num_adaptation_steps: K.
      task_group_size: tasks that act at once; None for all.
    """
    check_tasks(tasks)
    check_methods(policy)
    check_positive(num_tasks=num_tasks, num_episodes=num_episodes)
    check_at_least(0, num_adaptation_steps=num_adaptation_steps)
    check_positive(**{"num_adaptation_steps + 1": num_adaptation_steps + 1})
    if task_group_size is not None:
        check_positive(task_group_size=task_group_size)
    check_batch(
        tasks._replace(sample=tasks.sample_heldout),
        policy,
        num_tasks=min(num_tasks, task_group_size or num_tasks),
        num_episodes=num_episodes,
    )
    # A return and a key of each round, and the two keys and the numbers of a task.
    key = jax.random.key(0)
    task = num_bytes((key, key, jax.eval_shape(tasks.sample_heldout, key)))
    curve = (num_adaptation_steps + 1) * (4 + num_bytes(key))
    check_fits(
        f"the curves of num_tasks={num_tasks} and "
        f"num_adaptation_steps={num_adaptation_steps}",
        num_tasks * (task + curve),
    )


def task_keys(key: Key, num_tasks: int) -> tuple[Key, Key]:
    """Returns two keys per task `[N]`: what it is, and what happens on it.

    A task's keys do not depend on how many others there are.

    Args:
      key: as given to `evaluate`.
      num_tasks: N.

    Raises:
      ValueError: if `num_tasks` is below 1.
    """
    check_key(key)
    check_positive(num_tasks=num_tasks)
    task_keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(num_tasks))
    pairs = jax.vmap(jax.random.split)(task_keys)
    return pairs[:, 0], pairs[:, 1]


def heldout_tasks(key: Key, tasks: TaskDistribution, *, num_tasks: int) -> Task:
    """Draws the held-out tasks that `evaluate` uses with the same key.

    Args:
      key: as given to `evaluate`.
      tasks: the family.
      num_tasks: N. The first n of N tasks are the tasks drawn for n.

    Returns:
      N tasks, stacked along a leading axis.

    Raises:
      ValueError: if `num_tasks` is below 1.
    """
    check_tasks(tasks)
    key_task, _ = task_keys(key, num_tasks)
    return jax.vmap(tasks.sample_heldout)(key_task)


def evaluate(
    key: Key,
    tasks: TaskDistribution,
    policy: Policy,
    adapt: Adapt,
    agent: Agent,
    *,
    num_tasks: int,
    num_episodes: int,
    num_adaptation_steps: int,
    greedy: bool = False,
    task_group_size: int | None = None,
) -> jax.Array:
    """Measures adaptation curves on held-out tasks.

    R_{n,k} = mean over E fresh episodes of task n after k adaptation steps of the
    undiscounted episode return. Pure; `jax.jit` it, and `jax.vmap` it over seeds.

    Args:
      key: decides the tasks and all that happens on them. The same key gives two
        agents the same tasks; to compare methods, share it, and give each seed its
        own, so that `summarise` sees independent tasks.
      tasks: the family; its `sample_heldout` draws the tasks.
      policy: how the agent acts.
      adapt: one adaptation step; `MetaAlgorithm.adapt`.
      agent: where adaptation starts; `state.agent`.
      num_tasks: N.
      num_episodes: E, episodes of each task in each round.
      num_adaptation_steps: K.
      greedy: whether to act by the distribution's mode instead of a sample, in the
        episodes that are adapted on too.
      task_group_size: tasks under one `vmap`; None for all (`metarl_jax.batching`).

    Returns:
      `[N, K + 1]` mean episode returns.

    Raises:
      ValueError: if a count is below 1, or `num_adaptation_steps` below 0.
    """
    check_tasks(tasks)
    return evaluate_measures(
        key,
        tasks._replace(measures={}),
        policy,
        adapt,
        agent,
        num_tasks=num_tasks,
        num_episodes=num_episodes,
        num_adaptation_steps=num_adaptation_steps,
        greedy=greedy,
        task_group_size=task_group_size,
    )[0]


def evaluate_measures(
    key: Key,
    tasks: TaskDistribution,
    policy: Policy,
    adapt: Adapt,
    agent: Agent,
    *,
    num_tasks: int,
    num_episodes: int,
    num_adaptation_steps: int,
    greedy: bool = False,
    task_group_size: int | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Measures what `evaluate` does, and the family's `measures` of the same episodes.

    Args:
      key: as in `evaluate`.
      tasks: the family; of its `measures` the mean over E episodes is reported.
      policy: how the agent acts.
      adapt: one adaptation step.
      agent: where adaptation starts.
      num_tasks: N.
      num_episodes: E.
      num_adaptation_steps: K.
      greedy: whether to act by the distribution's mode.
      task_group_size: as in `evaluate`.

    Returns:
      `[N, K + 1]` mean episode returns, and as many of each measure by name.

    Raises:
      ValueError: if a count is below 1, or `num_adaptation_steps` below 0.
    """
    check_protocol(
        tasks,
        policy,
        num_tasks=num_tasks,
        num_episodes=num_episodes,
        num_adaptation_steps=num_adaptation_steps,
        task_group_size=task_group_size,
    )

    def one_task(task, key):
        def record(trajectories):
            def told(measure):
                of_episode = standard_promotion()(partial(measure, task))
                return jax.vmap(of_episode)(trajectories).astype(jnp.float32)

            measures = {name: told(one) for name, one in tasks.measures.items()}
            return rollout.episode_returns(trajectories), measures

        rounds = adaptation_rounds(
            key,
            tasks,
            policy,
            adapt,
            agent,
            task,
            num_episodes=num_episodes,
            num_adaptation_steps=num_adaptation_steps,
            greedy=greedy,
            record=record,
        )
        return jax.tree.map(lambda x: jnp.mean(x, axis=-1), rounds)

    key_task, key_run = task_keys(key, num_tasks)
    task_batch = jax.vmap(tasks.sample_heldout)(key_task)
    return map_tasks(one_task, group_size=task_group_size)(task_batch, key_run)


def adaptation_trajectories(
    key: Key,
    tasks: TaskDistribution,
    policy: Policy,
    adapt: Adapt,
    agent: Agent,
    *,
    num_tasks: int,
    num_episodes: int,
    num_adaptation_steps: int,
    greedy: bool = False,
) -> tuple[Task, Trajectory]:
    """Runs `evaluate` and returns what happened instead of its returns, for figures.

    Args:
      key: as in `evaluate`. With the same key and counts these are the very episodes
        that `evaluate` reports; fewer tasks are its first ones.
      tasks: the family.
      policy: how the agent acts.
      adapt: one adaptation step.
      agent: where adaptation starts.
      num_tasks: N.
      num_episodes: E.
      num_adaptation_steps: K.
      greedy: whether to act by the distribution's mode.

    Returns:
      The tasks, stacked along `[N]`, and trajectories `[N, K + 1, E, T, ...]`.

    Raises:
      ValueError: if a count is below 1, or `num_adaptation_steps` below 0.
    """
    check_protocol(
        tasks,
        policy,
        num_tasks=num_tasks,
        num_episodes=num_episodes,
        num_adaptation_steps=num_adaptation_steps,
    )

    def one_task(task, key):
        return adaptation_rounds(
            key,
            tasks,
            policy,
            adapt,
            agent,
            task,
            num_episodes=num_episodes,
            num_adaptation_steps=num_adaptation_steps,
            greedy=greedy,
            record=lambda trajectories: trajectories,
        )

    key_task, key_run = task_keys(key, num_tasks)
    task_batch = jax.vmap(tasks.sample_heldout)(key_task)
    return task_batch, jax.vmap(one_task)(task_batch, key_run)


def references(
    key: Key,
    tasks: TaskDistribution,
    algorithm: MetaAlgorithm,
    agent: Agent,
    *,
    num_tasks: int,
    num_episodes: int,
    num_adaptation_steps: int,
    greedy: bool = False,
    task_group_size: int | None = None,
) -> dict[str, jax.Array]:
    """Measures the reference rows beside a curve, under the same protocol.

    - `"random initialisation"`: a fresh `algorithm.init`, adapted with the same budget.
    - `"no adaptation"`: the meta-learned agent, as it was, in every round. Its memory
      too goes back to the start after a round; within one it lives as always.
    - each of `tasks.oracles`, by its own name: the same after every number of
      adaptation steps, averaged over E draws where it is simulated.

    Args:
      key: as given to `evaluate`: the same held-out tasks, and on them the same keys.
      tasks: the family.
      algorithm: the method; its `init`, `adapt` and `policy` are used.
      agent: the meta-learned agent.
      num_tasks: N.
      num_episodes: E.
      num_adaptation_steps: K.
      greedy: as in `evaluate`.
      task_group_size: as in `evaluate`.

    Returns:
      `[N, K + 1]` mean episode returns by name.

    Raises:
      ValueError: if a count is below 1, or `num_adaptation_steps` below 0.
    """
    check_key(key)
    if not isinstance(algorithm, MetaAlgorithm):
        raise ValueError(f"algorithm must be a MetaAlgorithm; got {shown(algorithm)}")
    check_protocol(
        tasks,
        algorithm.policy,
        num_tasks=num_tasks,
        num_episodes=num_episodes,
        num_adaptation_steps=num_adaptation_steps,
        task_group_size=task_group_size,
    )
    check_flags(greedy=greedy)
    run = partial(
        evaluate,
        key,
        tasks,
        algorithm.policy,
        num_tasks=num_tasks,
        num_episodes=num_episodes,
        num_adaptation_steps=num_adaptation_steps,
        greedy=greedy,
        task_group_size=task_group_size,
    )
    # Beyond the tasks' own numbers, which `task_keys` folds into the same key.
    key_init, key_oracles = jax.random.split(jax.random.fold_in(key, 2**31))
    rows = {
        "random initialisation": run(algorithm.adapt, algorithm.init(key_init).agent),
        "no adaptation": run(lambda key, current, trajectories: agent, agent),
    }
    task_batch = heldout_tasks(key, tasks, num_tasks=num_tasks)
    for name, oracle in tasks.oracles.items():

        def one_task(task, key, oracle=oracle):
            # An oracle that ignores its key is computed once, not E times.
            draws = jax.vmap(standard_promotion()(lambda key: oracle(key, task)))
            return jnp.mean(draws(jax.random.split(key, num_episodes)))

        keys = jax.random.split(key_oracles, num_tasks)
        mean_return = map_tasks(one_task, group_size=task_group_size)(task_batch, keys)
        rows[name] = jnp.repeat(mean_return[:, None], num_adaptation_steps + 1, axis=1)
    return rows

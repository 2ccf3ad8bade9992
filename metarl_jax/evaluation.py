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
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax import rollout
from metarl_jax.batching import map_tasks
from metarl_jax.types import (
    Agent,
    Key,
    MetaAlgorithm,
    Policy,
    Task,
    TaskDistribution,
    Trajectory,
)
from metarl_jax.validation import check_positive

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
      ValueError: if `num_episodes` is below 1 or `num_adaptation_steps` below 0.
    """
    check_positive(num_episodes=num_episodes)
    if num_adaptation_steps < 0:
        raise ValueError(
            f"num_adaptation_steps must be at least 0; got {num_adaptation_steps}"
        )

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


def _task_keys(key: Key, num_tasks: int) -> tuple[Key, Key]:
    """Two keys per task `[N]`: what it is, and what happens on it.

    A task's keys do not depend on how many others there are.
    """
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
    key_task, _ = _task_keys(key, num_tasks)
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

    def one_task(task, key):
        returns = adaptation_rounds(
            key,
            tasks,
            policy,
            adapt,
            agent,
            task,
            num_episodes=num_episodes,
            num_adaptation_steps=num_adaptation_steps,
            greedy=greedy,
        )
        return jnp.mean(returns, axis=-1)

    key_task, key_run = _task_keys(key, num_tasks)
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

    key_task, key_run = _task_keys(key, num_tasks)
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
    # Beyond the tasks' own numbers, which `_task_keys` folds into the same key.
    key_init, key_oracles = jax.random.split(jax.random.fold_in(key, 2**31))
    rows = {
        "random initialisation": run(algorithm.adapt, algorithm.init(key_init).agent),
        "no adaptation": run(lambda key, current, trajectories: agent, agent),
    }
    task_batch = heldout_tasks(key, tasks, num_tasks=num_tasks)
    for name, oracle in tasks.oracles.items():

        def one_task(task, key, oracle=oracle):
            # An oracle that ignores its key is computed once, not E times.
            draws = jax.vmap(lambda key: oracle(key, task))
            return jnp.mean(draws(jax.random.split(key, num_episodes)))

        keys = jax.random.split(key_oracles, num_tasks)
        mean_return = map_tasks(one_task, group_size=task_group_size)(task_batch, keys)
        rows[name] = jnp.repeat(mean_return[:, None], num_adaptation_steps + 1, axis=1)
    return rows


class Summary(NamedTuple):
    """Adaptation curves over seeds and tasks. Every field is `[K + 1]`."""

    mean: np.ndarray
    iqm: np.ndarray  # interquartile mean over seeds × tasks
    ci_low: np.ndarray  # of the mean
    ci_high: np.ndarray
    iqm_ci_low: np.ndarray
    iqm_ci_high: np.ndarray


def interquartile_mean(x: np.ndarray, axis: int = -1) -> np.ndarray:
    """Returns the mean of the middle half of the values along an axis.

    The ⌊n / 4⌋ smallest and largest are left out (Agarwal et al. 2021, arXiv
    2108.13264).
    """
    x = np.moveaxis(np.asarray(x), axis, -1)
    cut = x.shape[-1] // 4
    middle = np.partition(x, (cut, x.shape[-1] - cut - 1), axis=-1)
    return np.mean(middle[..., cut : x.shape[-1] - cut], axis=-1)


def summarise(
    returns: np.ndarray | jax.Array,
    *,
    seed: int = 0,
    num_resamples: int = 2000,
    confidence: float = 0.95,
) -> Summary:
    """Summarises adaptation curves with stratified-bootstrap intervals.

    Percentile intervals of the mean and of the interquartile mean. A resample draws
    seeds with replacement and then, within each drawn seed, its tasks: what is common
    to a seed's tasks is not averaged away by having many of them. It takes a task's
    curve as a whole.

    With one seed the interval speaks of the tasks alone, not of training again. With
    few seeds it is too narrow, as any bootstrap of few values: where seeds and tasks
    vary alike and there are 20 tasks, a 95 % interval of the mean was seen to hold
    the truth in 77, 84 and 91 % of simulations with 3, 5 and 10 seeds.

    Args:
      returns: `[S, N, K + 1]`, seeds × tasks × adaptation steps. The seeds' tasks are
        taken to be drawn independently.
      seed: of the resampling; the same seed gives the same intervals.
      num_resamples: bootstrap resamples.
      confidence: of the intervals.

    Returns:
      A `Summary`.

    Raises:
      ValueError: if `returns` has another rank or no values, `num_resamples` is below
        1, or `confidence` not between 0 and 1.
    """
    values = np.asarray(returns, np.float64)
    if values.ndim != 3 or values.size == 0:
        raise ValueError(
            "returns must be [seeds, tasks, adaptation steps + 1] and not empty; got "
            f"shape {values.shape}"
        )
    check_positive(num_resamples=num_resamples)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1; got {confidence}")
    num_seeds, num_tasks, num_points = values.shape
    rng = np.random.default_rng(seed)
    means = np.empty((num_resamples, num_points))
    iqms = np.empty((num_resamples, num_points))
    # In chunks, so that memory does not grow with the number of resamples.
    chunk = max(1, 2**20 // values.size)
    for start in range(0, num_resamples, chunk):
        size = min(chunk, num_resamples - start)
        seeds = rng.integers(num_seeds, size=(size, num_seeds, 1))
        drawn = rng.integers(num_tasks, size=(size, num_seeds, num_tasks))
        resampled = values[seeds, drawn].reshape(size, num_seeds * num_tasks, -1)
        means[start : start + size] = resampled.mean(axis=1)
        iqms[start : start + size] = interquartile_mean(resampled, axis=1)
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    flat = values.reshape(num_seeds * num_tasks, num_points)
    return Summary(
        flat.mean(axis=0),
        interquartile_mean(flat, axis=0),
        *np.quantile(means, tails, axis=0),
        *np.quantile(iqms, tails, axis=0),
    )

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
from scipy import special

from metarl_jax import rollout
from metarl_jax.batching import map_tasks
from metarl_jax.memory import check_fits, num_bytes
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
    check_fraction,
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


def _task_keys(key: Key, num_tasks: int) -> tuple[Key, Key]:
    """Two keys per task `[N]`: what it is, and what happens on it.

    A task's keys do not depend on how many others there are.
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
    check_protocol(
        tasks,
        policy,
        num_tasks=num_tasks,
        num_episodes=num_episodes,
        num_adaptation_steps=num_adaptation_steps,
        task_group_size=task_group_size,
    )

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
    if not isinstance(algorithm, MetaAlgorithm):
        raise ValueError(f"algorithm must be a MetaAlgorithm; got {shown(algorithm)}")
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
    num_not_finite: np.ndarray  # returns, of seeds × tasks, that are not finite


def interquartile_mean(x: np.ndarray, axis: int = -1) -> np.ndarray:
    """Returns the mean of the middle half of the values along an axis.

    The ⌊n / 4⌋ smallest and largest are left out (Agarwal et al. 2021, arXiv
    2108.13264). Where a value is NaN, and so neither small nor large, it is NaN.
    """
    x = np.moveaxis(np.asarray(x), axis, -1)
    cut = x.shape[-1] // 4
    middle = np.partition(x, (cut, x.shape[-1] - cut - 1), axis=-1)
    mean = np.mean(middle[..., cut : x.shape[-1] - cut], axis=-1)
    return np.where(np.isnan(x).any(axis=-1), np.nan, mean)


def t_half_width(
    standard_error: Any, degrees_of_freedom: Any, confidence: float = 0.95
) -> Any:
    """Returns half the width of a two-sided t-interval, t_{ν, (1 + confidence) / 2} s.

    NaN where there are no degrees of freedom: one value says nothing of its error.

    Args:
      standard_error: s of a mean.
      degrees_of_freedom: ν, one less than the values that it is the mean of.
      confidence: how often the interval is to hold what the mean estimates.
    """
    return special.stdtrit(degrees_of_freedom, (1 + confidence) / 2) * standard_error


def summarise(
    returns: np.ndarray | jax.Array,
    *,
    shared_tasks: bool = False,
    confidence: float = 0.95,
) -> Summary:
    """Summarises adaptation curves with t-intervals.

    With S > 1 seeds the intervals are over seeds, x̄ ± t_{S-1} s / √S: s is the standard
    deviation of the seeds' means for the mean, and of the seeds' interquartile means
    for the interquartile mean. That holds what a seed has in common, however many tasks
    it meets. In simulations with three, five and ten seeds of normal effects 95 %
    intervals hold the truth in 93 to 97 %; where one seed in several fails outright,
    fewer: nothing that was not drawn can widen an interval.

    With one seed they are over its N tasks and do not speak of training again: for the
    mean x̄ ± t_{N-1} s / √N, for the interquartile mean that of Tukey and McLaughlin
    (1963), from the Winsorised standard deviation.

    Tasks that all seeds meet make all of them better or worse together, which no
    seeds' differences show. `shared_tasks` adds it, estimated as the variance component
    of the tasks; its half-width and the seeds' add as squares.

    Args:
      returns: `[S, N, K + 1]`, seeds × tasks × adaptation steps.
      shared_tasks: whether task n is the same for all seeds; by default each has drawn
        its own, as `evaluate` does with a key for each.
      confidence: of the intervals.

    Returns:
      A `Summary`. Where a return is not finite, mean, interquartile mean and intervals
      are NaN. Intervals of a single value are NaN too.

    Raises:
      ValueError: if `returns` has another rank or no values, or `confidence` is not
        between 0 and 1.
    """
    values = np.asarray(returns, np.float64)
    if values.ndim != 3 or values.size == 0:
        raise ValueError(
            "returns must be [seeds, tasks, adaptation steps + 1] and not empty; got "
            f"shape {values.shape}"
        )
    check_fraction(confidence=confidence)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1; got {confidence}")
    finite = np.isfinite(values)
    values = np.where(finite, values, np.nan)
    num_tasks = values.shape[1]
    pooled = values.reshape(-1, values.shape[-1])
    mean, iqm = pooled.mean(axis=0), interquartile_mean(pooled, axis=0)

    # What a task adds to its seed's mean, or to its interquartile mean: the influence.
    cut = num_tasks // 4
    ordered = np.sort(values, axis=1)
    low, high = ordered[:, [cut]], ordered[:, [num_tasks - cut - 1]]
    winsorised = np.clip(values, low, high) / (1 - 2 * cut / num_tasks)
    of_mean = _half_width(
        values.mean(axis=1), values, num_tasks - 1, shared_tasks, confidence
    )
    of_iqm = _half_width(
        interquartile_mean(values, axis=1),
        winsorised,
        num_tasks - 2 * cut - 1,
        shared_tasks,
        confidence,
    )
    return Summary(
        mean,
        iqm,
        mean - of_mean,
        mean + of_mean,
        iqm - of_iqm,
        iqm + of_iqm,
        np.sum(~finite, axis=(0, 1)),
    )


def _half_width(
    by_seed: np.ndarray,
    influence: np.ndarray,
    task_freedom: int,
    shared_tasks: bool,
    confidence: float,
) -> np.ndarray:
    """Returns half the width of the interval of a statistic, `[K + 1]`.

    Args:
      by_seed: `[S, K + 1]` the statistic of each seed.
      influence: `[S, N, K + 1]` what each task adds to it, but for constants.
      task_freedom: degrees of freedom of the N tasks.
      shared_tasks: as in `summarise`.
      confidence: likewise.
    """
    num_seeds, num_tasks, num_points = influence.shape
    if num_seeds == 1 and task_freedom < 1:
        return np.full(num_points, np.nan)
    over_tasks, over_seeds = np.zeros((2, num_points))
    if num_seeds > 1:
        error = by_seed.std(axis=0, ddof=1) / np.sqrt(num_seeds)
        over_seeds = t_half_width(error, num_seeds - 1, confidence)
    if num_seeds == 1 or (shared_tasks and task_freedom > 0):
        # The variance of what seeds have in common in a task: E[variance of a task's
        # mean] = σ²_task + σ² / S, and E[variance within a seed] = σ²_task + σ².
        variance = influence.mean(axis=0).var(axis=0, ddof=1)
        if num_seeds > 1:
            within = influence.var(axis=1, ddof=1).mean(axis=0)
            variance = (num_seeds * variance - within) / (num_seeds - 1)
        error = np.sqrt(np.maximum(variance, 0) / num_tasks)
        over_tasks = t_half_width(error, task_freedom, confidence)
    return np.hypot(over_seeds, over_tasks)


def interval_name(num_seeds: int, *, shared_tasks: bool = False) -> str:
    """Says over what the 95 % intervals of `summarise` are taken."""
    if num_seeds == 1:
        return "95 % interval over tasks"
    return f"95 % interval over seeds{' and tasks' * shared_tasks}"

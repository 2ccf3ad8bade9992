"""Total rewards of a strategy over many instances, its setting chosen on others."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from metarl_jax import evaluation
from metarl_jax.reproduction.table import Measurement
from metarl_jax.runs import interruption, machine
from metarl_jax.types import Agent, Key, MetaAlgorithm, Policy, TaskDistribution

# Instances that run side by side: what a CPU's cache holds.
GROUP_SIZE = 500

# A strategy's program takes longer to compile than to run: half the time so.
COMPILER_OPTIONS = {
    "xla_backend_optimization_level": 1,
    "xla_llvm_disable_expensive_passes": True,
}

_PURPOSE_TUNING = 0x74756E65  # keeps the instances of a choice apart

Returns = Callable[[Key, Any, int], np.ndarray]


def keep_agent(key, agent, trajectories):
    """The adaptation of what adapts while it acts: none."""
    del key, trajectories
    return agent


def trial_returns(
    tasks: TaskDistribution,
    build: Callable[[Any], Policy],
    *,
    num_episodes: int = 1,
    num_rounds: int = 1,
    oracle: str | None = None,
) -> Returns:
    """Makes a function that measures a strategy under the one evaluation.

    Args:
      tasks: the family.
      build: makes the strategy from its setting. Floats are traced, so that one program
        serves all; whole numbers are not.
      num_episodes: E, episodes of a round.
      num_rounds: how many rounds follow one another in a trial.
      oracle: of the family, to measure by how much less was gained than by it: with
        the optimal arm, the regret.

    Returns:
      `(key, setting, num_instances) -> [N, num_rounds]`, the total reward of each
      round, or what is lacking to the oracle's. The key decides the instances:
      strategies given the same meet the same.
    """
    machine.enable_compilation_cache()

    def group(key, setting):
        policy = build(setting)
        agent = Agent(policy.init(key, (), None), policy.initial_memory())
        return _rewards(
            key, tasks, policy, keep_agent, agent, num_episodes, num_rounds, oracle
        )

    traced = jax.jit(group, compiler_options=COMPILER_OPTIONS)
    static = jax.jit(group, static_argnums=1, compiler_options=COMPILER_OPTIONS)

    def returns(key, setting, num_instances):
        compiled = traced if isinstance(setting, float) else static
        return _in_groups(key, lambda key: compiled(key, setting), num_instances)

    return returns


def agent_returns(
    tasks: TaskDistribution,
    algorithm: MetaAlgorithm,
    *,
    num_episodes: int = 1,
    num_rounds: int = 1,
    oracle: str | None = None,
) -> Returns:
    """Makes a function that measures a trained agent as `trial_returns` a strategy.

    Args:
      tasks: the family.
      algorithm: how the agent acts, and adapts from round to round.
      num_episodes: as in `trial_returns`.
      num_rounds: as in `trial_returns`.
      oracle: as in `trial_returns`.

    Returns:
      `(key, agent, num_instances) -> [N, num_rounds]`. With the same key an agent meets
      the instances that a strategy meets.
    """
    compiled = jax.jit(
        lambda key, agent: _rewards(
            key,
            tasks,
            algorithm.policy,
            algorithm.adapt,
            agent,
            num_episodes,
            num_rounds,
            oracle,
        )
    )

    def returns(key, agent, num_instances):
        return _in_groups(key, lambda key: compiled(key, agent), num_instances)

    return returns


def _rewards(key, tasks, policy, adapt, agent, num_episodes, num_rounds, oracle):
    """Measures a group of instances, `[GROUP_SIZE, num_rounds]`."""
    mean_return = evaluation.evaluate(
        key,
        tasks,
        policy,
        adapt,
        agent,
        num_tasks=GROUP_SIZE,
        num_episodes=num_episodes,
        num_adaptation_steps=num_rounds - 1,
    )
    if oracle is not None:
        task_batch = evaluation.heldout_tasks(key, tasks, num_tasks=GROUP_SIZE)
        best = jax.vmap(partial(tasks.oracles[oracle], key))(task_batch)
        mean_return = best[:, None] - mean_return
    return num_episodes * mean_return


def _in_groups(key, group, num_instances):
    """Collects instances group by group, so that an interruption is heard between."""
    values = []
    for i in range(-(-num_instances // GROUP_SIZE)):
        outputs = group(jax.random.fold_in(key, i))
        interruption.wait(outputs)
        values.append(np.asarray(outputs, np.float64))
    return np.concatenate(values)[:num_instances]


def choose(
    key: Key, returns: Returns, settings: Sequence[Any], *, num_instances: int
) -> np.ndarray:
    """Measures the mean of every setting over instances used for nothing else.

    So what is reported of the best is not the best of several noisy numbers.

    Args:
      key: as for the report.
      returns: of the strategy.
      settings: to choose from.
      num_instances: of the choice.

    Returns:
      `[len(settings), num_rounds]` means.
    """
    key = jax.random.fold_in(key, _PURPOSE_TUNING)
    return np.stack([returns(key, x, num_instances).mean(axis=0) for x in settings])


def best_of(settings: Sequence[Any], scores: np.ndarray) -> Any:
    """Returns the setting of the highest score; what is not a number is the lowest."""
    return settings[int(np.argmax(np.where(np.isnan(scores), -np.inf, scores)))]


def measure(
    key: Key,
    returns: Returns,
    *,
    num_instances: int,
    settings: Sequence[Any] = (None,),
    num_tuning: int = 1000,
    symbol: str = "",
    lower_is_better: bool = False,
) -> Measurement:
    """Measures the total reward of a trial of one round.

    Args:
      key: decides the instances.
      returns: of the strategy.
      num_instances: N.
      settings: to choose from (`choose`).
      num_tuning: instances of the choice.
      symbol: of the setting, for the records.
      lower_is_better: whether the smallest mean is the best.

    Returns:
      `[N]` total rewards and the setting.
    """
    best = settings[0]
    if len(settings) > 1:
        means = choose(key, returns, settings, num_instances=num_tuning)
        best = best_of(settings, -means if lower_is_better else means)
    setting = f"{symbol} = {best:g}" if symbol else ""
    return Measurement(returns(key, best, num_instances)[:, 0], setting)


def exact(value: float) -> Measurement:
    """Wraps a number that was computed, not sampled."""
    return Measurement(np.array([value]))

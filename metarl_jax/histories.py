"""Learning histories: all episodes of a learner, from its first to its last."""

import jax

from metarl_jax import rollout
from metarl_jax.types import (
    Agent,
    Key,
    MetaAlgorithm,
    Task,
    TaskDistribution,
    Trajectory,
)
from metarl_jax.validation import check_positive


def history(
    key: Key,
    tasks: TaskDistribution,
    learner: MetaAlgorithm,
    agent: Agent,
    task: Task,
    *,
    num_rounds: int,
    num_episodes: int,
) -> Trajectory:
    """Records how an agent learns one task: K rounds of acting and adapting.

    Args:
      key: consumed.
      tasks: the family.
      learner: its policy acts, its `adapt` learns.
      agent: where it begins: `learner.init(key).agent` to learn from nothing, a trained
        one to see it adapt.
      task: the environment's params.
      num_rounds: K.
      num_episodes: E, episodes of a round.

    Returns:
      `[K E, T, ...]`, in the order of learning.

    Raises:
      ValueError: if a count is below 1.
    """
    check_positive(num_rounds=num_rounds, num_episodes=num_episodes)

    def one(agent, key):
        key_act, key_adapt = jax.random.split(key)
        acted, trajectories = rollout.collect(
            key_act, tasks, learner.policy, agent, task, num_episodes=num_episodes
        )
        return learner.adapt(key_adapt, acted, trajectories), trajectories

    rounds = jax.lax.scan(one, agent, jax.random.split(key, num_rounds))[1]
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rounds)

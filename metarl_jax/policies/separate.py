"""Two networks that share nothing: one acts, the other one says what to expect."""

from typing import Any, NamedTuple

import jax

from metarl_jax.policies.mlp import MLP, MLPPolicy, mlp_policy
from metarl_jax.types import Key, Memory, Observation, Params, TaskDistribution


class ActorAndCritic(NamedTuple):
    """A policy without memory and a value of its own network.

    Its parameters are `{"actor": θ, "critic": φ}`.

    Attributes:
      actor: gives the distribution of actions.
      critic: gives the value, of observations that are flattened.
    """

    actor: MLPPolicy
    critic: MLP

    def init(self, key: Key, memory: Memory, obs: Observation) -> Params:
        """Draws θ and φ."""
        key_actor, key_critic = jax.random.split(key)
        return {
            "actor": self.actor.init(key_actor, memory, obs),
            "critic": self.critic.init(key_critic, self.flat(obs)),
        }

    def apply(self, params: Params, memory: Memory, obs: Observation):
        """Returns the one's distribution and the other one's value."""
        actor: Any = self.actor.apply(params["actor"], memory, obs)
        critic: Any = self.critic.apply(params["critic"], self.flat(obs))
        return actor[0], critic[..., 0], memory

    def initial_memory(self) -> Memory:
        """Returns `()`: this policy remembers nothing."""
        return ()

    def flat(self, obs: Observation) -> jax.Array:
        """Returns observations as the critic sees them, `[..., D]`."""
        return obs.reshape(*obs.shape[: obs.ndim - self.actor.obs_rank], -1) * 1.0


def separate_policy(tasks: TaskDistribution, **kwargs) -> ActorAndCritic:
    """Makes an actor and a critic with the same hidden layers that fit a task family.

    Args:
      tasks: the family; images are flattened too.
      **kwargs: attributes of `MLPPolicy`: `hidden_sizes`, `activation` and those of the
        actions' standard deviation.

    Raises:
      ValueError: as `mlp_policy` does.
    """
    actor = mlp_policy(tasks, **{"encoder": None, **kwargs})
    return ActorAndCritic(
        actor, MLP(1, hidden_sizes=actor.hidden_sizes, activation=actor.activation)
    )

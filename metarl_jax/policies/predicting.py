"""Policies with predictions beside their actions, whose meaning a rule may decide."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.policies.mlp import MLP
from metarl_jax.policies.tabular import Table, num_states
from metarl_jax.types import Key, Memory, Observation, Params, Policy, TaskDistribution
from metarl_jax.validation import (
    check_methods,
    check_positive,
    check_sizes,
    check_tasks,
)


class PredictingPolicy(NamedTuple):
    """Any policy, and beside it logits y(o) of a categorical prediction.

    Its parameters are `{"network": θ, "prediction": φ}`. Nothing says what y predicts:
    a learned rule moves it towards targets that it makes itself (Oh et al. 2020, arXiv
    2007.08794).

    Attributes:
      policy: the policy inside, without memory.
      predictor: a flax module, `obs [..., D] -> [..., M]`.
      obs_rank: how many trailing axes one observation has, which are flattened for the
        predictor; 0 where it is a number.
    """

    policy: Policy
    predictor: Any
    obs_rank: int = 1

    def init(self, key: Key, memory: Memory, obs: Observation) -> Params:
        """Draws θ and φ."""
        key_network, key_prediction = jax.random.split(key)
        return {
            "network": self.policy.init(key_network, memory, obs),
            "prediction": self.predictor.init(key_prediction, self._flat(obs)),
        }

    def apply(self, params: Params, memory: Memory, obs: Observation):
        """Returns what the policy inside makes of the observation."""
        return self.policy.apply(params["network"], memory, obs)

    def predict(self, params: Params, obs: Observation) -> jax.Array:
        """Returns the logits of y, `[..., M]`."""
        return self.predictor.apply(params["prediction"], self._flat(obs))

    def initial_memory(self) -> Memory:
        """Returns that of the policy inside."""
        return self.policy.initial_memory()

    def _flat(self, obs):
        if self.obs_rank == 0:
            return obs
        batch = obs.shape[: obs.ndim - self.obs_rank]
        return obs.reshape(*batch, -1).astype(jnp.float32)


def predicting(
    tasks: TaskDistribution,
    policy: Policy,
    *,
    num_predictions: int = 8,
    hidden_sizes: tuple[int, ...] = (32,),
) -> PredictingPolicy:
    """Gives a policy a prediction that fits a task family.

    Args:
      tasks: the family; what a policy sees is one array.
      policy: without memory.
      num_predictions: M.
      hidden_sizes: of the predictor; where states are told by number it is a table.

    Raises:
      ValueError: if a size is below 1, or what a policy sees is not one array.
    """
    check_tasks(tasks)
    check_methods(policy)
    check_positive(num_predictions=num_predictions)
    check_sizes(hidden_sizes=hidden_sizes)
    states, obs = num_states(tasks), tasks.observation
    scalar = states is None and getattr(obs, "shape", None) == ()
    if scalar or not isinstance(obs, jax.ShapeDtypeStruct):
        raise ValueError(
            "a prediction needs an observation that is one array with an axis; "
            f"{tasks.env.name} shows {obs}"
        )
    if states is not None:
        return PredictingPolicy(policy, Table(states, num_predictions), 0)
    predictor = MLP(num_predictions, tuple(hidden_sizes), activation=jnp.tanh)
    return PredictingPolicy(policy, predictor, len(obs.shape))

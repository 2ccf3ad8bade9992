"""Policies whose input is joined by a vector that adaptation moves."""

from typing import NamedTuple

import jax.numpy as jnp

from metarl_jax.spaces import join
from metarl_jax.types import Key, Memory, Observation, Params, Policy


class ContextPolicy(NamedTuple):
    """Any policy with a context vector φ at the end of every observation.

    Its parameters are `{"network": θ, "context": φ}`, θ those of the policy inside,
    made for observations that are longer by φ. An affine first layer so adds W φ to
    its bias (Zintgraf et al. 2019, arXiv 1810.03642).

    Attributes:
      policy: the policy inside; it must not have been made for a fixed input size.
      context_size: how long φ is.
    """

    policy: Policy
    context_size: int

    def init(self, key: Key, memory: Memory, obs: Observation) -> Params:
        """Draws θ and sets φ to zero."""
        context = jnp.zeros(self.context_size)
        network = self.policy.init(key, memory, join(obs, context))
        return {"network": network, "context": context}

    def apply(self, params: Params, memory: Memory, obs: Observation):
        """Returns what the policy inside makes of observation and context."""
        joined = join(obs, params["context"])
        return self.policy.apply(params["network"], memory, joined)

    def initial_memory(self) -> Memory:
        """Returns that of the policy inside."""
        return self.policy.initial_memory()

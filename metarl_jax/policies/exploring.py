"""A policy that now and then does anything."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax import spaces
from metarl_jax.types import Key, Memory, Observation, Params


class Mixture(NamedTuple):
    """Uniform with probability ε, and something else otherwise."""

    distribution: Any
    space: Any
    epsilon: jax.Array

    def sample(self, key: Key) -> jax.Array:
        """Draws an action."""
        key_which, key_uniform, key_other = jax.random.split(key, 3)
        other = self.distribution.sample(key_other)
        uniform = spaces.draw(key_uniform, self.space).astype(other.dtype)
        anything = jax.random.bernoulli(key_which, self.epsilon)
        return jnp.where(anything, uniform, other)

    def mode(self) -> jax.Array:
        """Returns the mode of what is not uniform."""
        return self.distribution.mode()

    def log_prob(self, action: jax.Array) -> jax.Array:
        """Returns log(ε u + (1 - ε) p(action)), u the density of the uniform one."""
        num_actions = spaces.num_choices(self.space)
        if num_actions is None:
            width = jnp.asarray(self.space.high) - jnp.asarray(self.space.low)
            width = jnp.broadcast_to(width, self.space.shape)
            log_uniform = -jnp.sum(jnp.log(width))
        else:
            log_uniform = -jnp.log(jnp.asarray(num_actions, float))
        other = self.distribution.log_prob(action)
        return jnp.logaddexp(
            jnp.log(self.epsilon) + log_uniform.astype(other.dtype),
            jnp.log1p(-self.epsilon) + other,
        )


class ExploringPolicy(NamedTuple):
    """A policy whose actions are, with probability ε, uniformly random ones.

    Its parameters are `(ε, those of the policy)`, so that ε may change with time.

    Attributes:
      policy: what acts otherwise; its memory is this one's.
      space: of the actions, with bounds if it is a `Box`.
    """

    policy: Any
    space: Any

    def init(self, key: Key, memory: Memory, obs: Observation) -> Params:
        """Draws the policy's parameters, and no exploration."""
        return jnp.zeros(()), self.policy.init(key, memory, obs)

    def apply(self, params: Params, memory: Memory, obs: Observation):
        """Returns the `Mixture`, the policy's value and its next memory."""
        epsilon, params = params
        distribution, value, memory = self.policy.apply(params, memory, obs)
        return Mixture(distribution, self.space, epsilon), value, memory

    def initial_memory(self) -> Memory:
        """Returns the policy's."""
        return self.policy.initial_memory()

    def observe(self, memory: Memory, transition: Any) -> Memory:
        """Shows the policy what came of the action."""
        observe = getattr(self.policy, "observe", None)
        return memory if observe is None else observe(memory, transition)

    def hold(self, goes_on: jax.Array, new: Memory, old: Memory) -> Memory:
        """Returns the new memory where a step counts, the old one elsewhere."""
        hold = getattr(self.policy, "hold", None)
        if hold is not None:
            return hold(goes_on, new, old)
        return jax.tree.map(lambda x, y: jnp.where(goes_on, x, y), new, old)

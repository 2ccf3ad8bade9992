"""Policies that now and then do anything, for a step or for an episode."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax import spaces
from metarl_jax.policies.random import Intention, PersistentRandomPolicy
from metarl_jax.types import Key, Memory, Observation, Params


class Uniform(NamedTuple):
    """The uniform distribution over an action space, with bounds if it is a `Box`."""

    space: Any

    def sample(self, key: Key) -> jax.Array:
        """Draws an action."""
        return spaces.draw(key, self.space)

    def log_prob(self, action: jax.Array) -> jax.Array:
        """Returns the logarithm of its density."""
        del action
        num_actions = spaces.num_choices(self.space)
        if num_actions is not None:
            return -jnp.log(jnp.asarray(num_actions, float))
        width = jnp.asarray(self.space.high) - jnp.asarray(self.space.low)
        return -jnp.sum(jnp.log(jnp.broadcast_to(width, self.space.shape)))


class Mixture(NamedTuple):
    """One distribution with probability ε, and another otherwise."""

    distribution: Any
    now_and_then: Any
    epsilon: jax.Array

    def sample(self, key: Key) -> jax.Array:
        """Draws an action."""
        key_which, key_this, key_other = jax.random.split(key, 3)
        other = self.distribution.sample(key_other)
        this = self.now_and_then.sample(key_this).astype(other.dtype)
        return jnp.where(jax.random.bernoulli(key_which, self.epsilon), this, other)

    def mode(self) -> jax.Array:
        """Returns the mode of the other one."""
        return self.distribution.mode()

    def log_prob(self, action: jax.Array) -> jax.Array:
        """Returns log(ε p_this(action) + (1 - ε) p_other(action))."""
        other = self.distribution.log_prob(action)
        this = self.now_and_then.log_prob(action).astype(other.dtype)
        return jnp.logaddexp(
            jnp.log(self.epsilon) + this, jnp.log1p(-self.epsilon) + other
        )


class ExploringPolicy(NamedTuple):
    """A policy whose actions are, with probability ε, uniformly random ones.

    Its parameters are `(ε, those of the policy)`, so that ε may change with time.

    Attributes:
      policy: the `MemoryPolicy` that acts otherwise; its memory is this one's.
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
        return Mixture(distribution, Uniform(self.space), epsilon), value, memory

    def initial_memory(self) -> Memory:
        """Returns the policy's."""
        return self.policy.initial_memory()

    def observe(self, memory: Memory, transition: Any) -> Memory:
        """Shows the policy what came of the action."""
        return self.policy.observe(memory, transition)

    def hold(self, goes_on: jax.Array, new: Memory, old: Memory) -> Memory:
        """Returns the new memory where a step counts, the old one elsewhere."""
        return self.policy.hold(goes_on, new, old)


class Roaming(NamedTuple):
    """The memory of a `RoamingPolicy`."""

    memory: Memory  # the policy's, which sees all that is done
    intention: Intention
    roams: jax.Array  # [] bool, in this episode


class RoamingPolicy(NamedTuple):
    """A policy that in some episodes goes wherever chance leads it.

    Single random actions leave an agent where it goes anyway; actions that are kept up
    come to places that it has never been to (Dabney et al. 2021, arXiv 2006.01782).

    Attributes:
      policy: what acts otherwise, a `MemoryPolicy` or an `ExploringPolicy` of one,
        and remembers what was done.
      space: of the actions.
      fraction: of the episodes in which a `PersistentRandomPolicy` acts.
    """

    policy: Any
    space: Any
    fraction: float

    @property
    def random(self) -> PersistentRandomPolicy:
        """Who acts then."""
        return PersistentRandomPolicy(self.space)

    def init(self, key: Key, memory: Roaming, obs: Observation) -> Params:
        """Draws the policy's parameters."""
        return self.policy.init(key, memory.memory, obs)

    def begin(self, key: Key, memory: Roaming) -> Roaming:
        """Draws who acts in an episode."""
        key_roams, key_intention = jax.random.split(key)
        return Roaming(
            memory.memory,
            self.random.begin(key_intention, memory.intention),
            jax.random.bernoulli(key_roams, self.fraction),
        )

    def apply(self, params: Params, memory: Roaming, obs: Observation):
        """Returns the distribution of who acts, the policy's value and next memory."""
        distribution, value, inner = self.policy.apply(params, memory.memory, obs)
        decided, _, intention = self.random.apply((), memory.intention, obs)
        epsilon = memory.roams.astype(float)
        following = memory._replace(memory=inner, intention=intention)
        return Mixture(distribution, decided, epsilon), value, following

    def initial_memory(self) -> Roaming:
        """Returns the policy's, and what `begin` will overwrite."""
        return Roaming(
            self.policy.initial_memory(),
            self.random.initial_memory(),
            jnp.asarray(False),
        )

    def observe(self, memory: Roaming, transition: Any) -> Roaming:
        """Shows the policy what came of the action."""
        inner = self.policy.observe(memory.memory, transition)
        return memory._replace(memory=inner)

    def hold(self, goes_on: jax.Array, new: Roaming, old: Roaming) -> Roaming:
        """Returns the new memory where a step counts, the old one elsewhere."""
        inner = self.policy.hold(goes_on, new.memory, old.memory)
        return new._replace(memory=inner)

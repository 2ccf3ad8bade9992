"""A policy that remembers: what it saw, did and got, through any core with a state."""

from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from metarl_jax.policies.mlp import MLPPolicy, mlp_policy
from metarl_jax.types import Params, TaskDistribution, Trajectory


class Core(Protocol):
    """What carries information along a trial; a flax module of this shape.

    `unroll` is `__call__` step after step, computed in whatever way is fastest.
    """

    def initial_state(self) -> Any:
        """Returns the state at the start of a trial."""
        ...

    def __call__(self, state: Any, x: jax.Array) -> tuple[Any, jax.Array]:
        """Takes an input `[D]`; returns the next state and an output `[H]`."""
        ...

    def unroll(self, state: Any, xs: jax.Array) -> jax.Array:
        """Takes a stream of inputs `[L, D]`; returns the outputs `[L, H]`."""
        ...


class Recollection(NamedTuple):
    """The memory of a `MemoryPolicy`: what its next input needs beside the observation.

    At the start of a trial action and reward are zero.
    """

    state: Any  # of the core
    action: jax.Array  # [A] the last action, one-hot if it is discrete
    reward: jax.Array  # [] the last reward
    start: jax.Array  # [] 1 at the first step of an episode


class MemoryPolicy(nn.Module):
    """Observation, last action, last reward and start flag, a core, and heads.

    The inputs of RL² (Duan et al. 2016, arXiv 1611.02779). All of the memory, the last
    reward too, lives through episode ends: `initial_memory` alone makes it new.

    Attributes:
      core: what remembers.
      head: the policy and value that are read out of the core's output.
    """

    core: Any  # a `Core`; flax takes submodules of the annotation Any as well
    head: MLPPolicy

    def __call__(self, memory, obs):
        """Returns the action distribution, the value and the memory after a step."""
        x = jnp.concatenate(_inputs(memory, jnp.ravel(obs)))
        state, y = self.core(memory.state, x)
        distribution, value, _ = self.head((), y)
        return distribution, value, memory._replace(state=state)

    def initial_memory(self):
        """Returns the memory at the start of a trial."""
        size = self.head.num_actions or self.head.action_dim
        state = self.core.initial_state()
        return Recollection(state, jnp.zeros(size), jnp.zeros(()), jnp.ones(()))

    def observe(self, memory: Recollection, transition: Trajectory) -> Recollection:
        """Remembers what was done, what it paid and whether the episode is over."""
        ended = transition.terminated | transition.truncated
        return memory._replace(
            action=self._encode(transition.action),
            reward=transition.reward.astype(jnp.float32),
            start=ended.astype(jnp.float32),
        )

    def unroll(self, params: Params, memory: Recollection, steps: Trajectory):
        """Returns distributions and values `[L]` along a stream of steps.

        Args:
          params: the parameters.
          memory: before the first step.
          steps: `[L, ...]`, one after the other without gaps
            (`metarl_jax.trials.stream`).
        """
        return self.apply(params, memory, steps, method="_unroll")

    def _unroll(self, memory, steps):
        after = jax.vmap(lambda step: self.observe(memory, step))(steps)
        before = jax.tree.map(
            lambda first, xs: jnp.concatenate([first[None], xs[:-1]]),
            memory._replace(state=()),
            after._replace(state=()),
        )
        obs = steps.obs.reshape(steps.mask.shape[0], -1)
        xs = jnp.concatenate(_inputs(before, obs), axis=-1)
        distribution, value, _ = self.head((), self.core.unroll(memory.state, xs))
        return distribution, value

    def _encode(self, action):
        if self.head.num_actions is None:
            return action.astype(jnp.float32)
        return jax.nn.one_hot(action, self.head.num_actions)


def _inputs(memory, obs):
    return [
        obs.astype(jnp.float32),
        memory.action,
        memory.reward[..., None],
        memory.start[..., None],
    ]


def memory_policy(tasks: TaskDistribution, core: Core, **kwargs) -> MemoryPolicy:
    """Makes a `MemoryPolicy` whose heads fit a task family.

    Args:
      tasks: the family; only its environment's spaces are read.
      core: what remembers: `GRU`, `LSTM`, `Transformer`, `LinearRecurrent` or one of
        yours.
      **kwargs: attributes of the head, an `MLPPolicy`; by default it has no hidden
        layer and a value head.

    Returns:
      A policy with memory.

    Raises:
      ValueError: as `mlp_policy` does.
    """
    kwargs = {"hidden_sizes": (), "value_head": True, **kwargs}
    return MemoryPolicy(core, mlp_policy(tasks, **kwargs).clone(obs_rank=1))

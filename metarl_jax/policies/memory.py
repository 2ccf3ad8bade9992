"""A policy that remembers: what it saw, did and got, through any core with a state."""

from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.types import Params, TaskDistribution, Trajectory
from metarl_jax.validation import check_above_zero, check_flags, check_positive


class Core(Protocol):
    """What carries information along a trial; a flax module of this shape.

    `unroll` is `__call__` step after step, computed in whatever way is fastest. A core
    that can begin a trial at less cost than from its initial state may have a method
    `start_of_trial() -> state`, which `unroll` takes in the place of it; one with a
    large state may have `hold(goes_on, new, old) -> state`, which keeps the old state
    where a step does not count, without copying it.
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

    At the start of a trial action, reward and what was seen are zero.
    """

    state: Any  # of the core
    action: jax.Array  # [A] the last action, one-hot if it is discrete
    reward: jax.Array  # [] the last reward
    start: jax.Array  # [] 1 at the first step of an episode
    time: jax.Array  # [] steps of the trial that were taken
    obs: Any = ()  # [D] what was seen before the last action, where it is an input


class MemoryPolicy(nn.Module):
    """Observation, last action, last reward and start flag, a core, and heads.

    The inputs of RL² (Duan et al. 2016, arXiv 1611.02779). All of the memory, the last
    reward too, lives through episode ends: `initial_memory` alone makes it new.

    Attributes:
      core: what remembers.
      head: the policy and value that are read out of the core's output: what an
        observation is to an `MLPPolicy`. In the place of a memory it gets the
        observation itself, or what the encoder makes of it, which a `Hypernetwork` acts
        on and an `MLPPolicy` ignores.
      time_scale: where it is given, the steps taken in the trial, divided by this, are
        an input too (Wang et al. 2016, arXiv 1611.05763).
      encoder: a flax module `[..., H, W, C] -> [..., D]`, such as a `CNN`, for
        observations that are images; None: they are flattened.
      obs_size: D; where it is given, what was seen before the last action is an input
        too, so that a step brings the whole of a transition (s, a, r, s') (Melo 2022,
        arXiv 2206.06614). What to remember of it then takes no step to be put together.
    """

    core: Any  # a `Core`; flax takes submodules of the annotation Any as well
    head: Any  # an `MLPPolicy` or a `Hypernetwork`
    time_scale: float | None = None
    encoder: Any = None
    obs_size: int | None = None

    def __post_init__(self):
        """Checks the attributes."""
        check_core(self.core)
        if self.obs_size is not None:
            check_positive(obs_size=self.obs_size)
        if self.time_scale is not None:
            check_above_zero(time_scale=self.time_scale)
        super().__post_init__()

    def __call__(self, memory, obs):
        """Returns the action distribution, the value and the memory after a step."""
        obs = self._features(obs)
        x = self._input(memory, obs)
        state, y = self.core(memory.state, x)
        distribution, value, _ = self.head(obs, y)
        if self.obs_size is not None:
            memory = memory._replace(obs=jnp.ravel(obs).astype(memory.obs.dtype))
        return distribution, value, memory._replace(state=state)

    def initial_memory(self):
        """Returns the memory at the start of a trial."""
        size = self.head.num_actions or self.head.action_dim
        return Recollection(
            state=self.core.initial_state(),
            action=jnp.zeros(size),
            reward=jnp.zeros(()),
            start=jnp.ones(()),
            time=jnp.zeros(()),
            obs=() if self.obs_size is None else jnp.zeros(self.obs_size),
        )

    def observe(self, memory: Recollection, transition: Trajectory) -> Recollection:
        """Remembers what was done, what it paid and whether the episode is over."""
        ended = transition.terminated | transition.truncated
        return memory._replace(
            action=self._encode(transition.action).astype(memory.action.dtype),
            reward=transition.reward.astype(memory.reward.dtype),
            start=ended.astype(memory.start.dtype),
            time=memory.time + 1.0,
        )

    def hold(self, goes_on: jax.Array, new: Recollection, old: Recollection):
        """Returns the new memory where a step counts, the old one elsewhere."""

        def kept(new, old):
            return jax.tree.map(lambda x, y: jnp.where(goes_on, x, y), new, old)

        hold = getattr(self.core, "hold", None)
        if hold is None:
            return kept(new, old)
        rest = kept(new._replace(state=()), old._replace(state=()))
        return rest._replace(state=hold(goes_on, new.state, old.state))

    def unroll(self, params: Params, memory: Recollection | None, steps: Trajectory):
        """Returns distributions and values `[L]` along a stream of steps.

        Args:
          params: the parameters.
          memory: before the first step; None at the start of a trial.
          steps: `[L, ...]`, one after the other without gaps
            (`metarl_jax.trials.stream`).
        """
        return self.apply(params, self._begun(memory), steps, method="_unroll")

    def recall(
        self, params: Params, memory: Recollection | None, steps: Trajectory
    ) -> Any:
        """Returns what the head reads along a stream of steps.

        Args:
          params: the parameters.
          memory: as for `unroll`.
          steps: `[L, ...]`, as for `unroll`.

        Returns:
          Observations, or what the encoder makes of them, and the core's outputs
          `[L, H]`: the arguments of the head.
        """
        return self.apply(params, self._begun(memory), steps, method="_recall")

    def _begun(self, memory):
        if memory is not None:
            return memory
        memory = self.initial_memory()
        if hasattr(self.core, "start_of_trial"):
            memory = memory._replace(state=self.core.start_of_trial())
        return memory

    def _unroll(self, memory, steps):
        distribution, value, _ = self.head(*self._recall(memory, steps))
        return distribution, value

    def _recall(self, memory, steps):
        def remember(memory, step):
            return self.observe(memory, step), memory

        # Without the core, so that this scan moves a few numbers only.
        first = memory._replace(state=(), obs=())
        before = jax.lax.scan(remember, first, steps)[1]
        obs = self._features(steps.obs)
        if self.obs_size is not None:
            seen = obs.reshape(len(obs), -1)
            before = before._replace(obs=jnp.vstack([memory.obs, seen[:-1]]))
        xs = jax.vmap(self._input)(before, obs)
        return obs, self.core.unroll(memory.state, xs)

    def _features(self, obs):
        return obs if self.encoder is None else self.encoder(obs)

    def _input(self, memory, obs):
        scalars = [memory.reward, memory.start]
        if self.time_scale is not None:
            scalars.append(memory.time / self.time_scale)
        parts = [jnp.ravel(obs), memory.action, jnp.stack(scalars)]
        if self.obs_size is not None:
            parts.append(memory.obs)
        return jnp.concatenate(parts)

    def _encode(self, action):
        if self.head.num_actions is None:
            return action
        return jax.nn.one_hot(action, self.head.num_actions)


def check_core(core: Core) -> None:
    """Raises a `ValueError` unless it is a core."""
    for method in ("initial_state", "__call__", "unroll"):
        if isinstance(core, type) or not hasattr(core, method):
            raise ValueError(
                "core must have initial_state, unroll and a call, such as GRU(64); got "
                f"{core!r}"
            )


def memory_policy(
    tasks: TaskDistribution,
    core: Core,
    *,
    time_scale: float | None = None,
    whole_transitions: bool = False,
    **kwargs,
) -> MemoryPolicy:
    """Makes a `MemoryPolicy` whose heads fit a task family.

    Args:
      tasks: the family; only its environment's spaces are read.
      core: what remembers: `GRU`, `LSTM`, `Transformer`, `LinearRecurrent` or one of
        yours.
      time_scale: as in `MemoryPolicy`.
      whole_transitions: whether what was seen before the last action is an input too
        (`MemoryPolicy.obs_size`).
      **kwargs: attributes of the head, an `MLPPolicy`; by default it has no hidden
        layer and a value head. The encoder is by default a `CNN` where observations are
        images.

    Returns:
      A policy with memory.

    Raises:
      ValueError: as `mlp_policy` does.
    """
    kwargs = {"hidden_sizes": (), "value_head": True, **kwargs}
    check_flags(whole_transitions=whole_transitions)
    head = mlp_policy(tasks, **kwargs)
    encoder = head.encoder
    obs_size = _obs_size(tasks, encoder) if whole_transitions else None
    # What reads the observation is the core; the head reads the core.
    head = head.clone(obs_rank=1, encoder=None)
    return MemoryPolicy(core, head, time_scale, encoder, obs_size)


def _obs_size(tasks, encoder):
    """Returns D: the size of an observation, or of what the encoder makes of it."""

    def seen(obs):
        if encoder is None:
            return obs
        return encoder.init_with_output(jax.random.key(0), obs)[0]

    return jax.eval_shape(seen, tasks.blank()).size

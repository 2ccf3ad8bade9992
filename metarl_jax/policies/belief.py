"""A policy that acts on its belief: a Gaussian over what the task may be."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from metarl_jax import spaces
from metarl_jax.distributions import DiagGaussian
from metarl_jax.policies.cnn import image_encoder
from metarl_jax.policies.memory import Core, check_core
from metarl_jax.spaces import join
from metarl_jax.types import Key, Params, Policy, TaskDistribution, Trajectory
from metarl_jax.validation import check_methods, check_positive, check_tasks


class Encoder(nn.Module):
    """A core whose output is read as a belief N(μ, diag σ²).

    Attributes:
      core: what carries information along a trial.
      latent_size: D, how many numbers the belief is about.
      encoder: a flax module that makes vectors of the inputs, such as a `CNN`.
    """

    core: Any  # a `Core`; flax takes submodules of the annotation Any as well
    latent_size: int
    encoder: Any = None

    def __post_init__(self):
        """Checks the attributes."""
        check_core(self.core)
        check_positive(latent_size=self.latent_size)
        super().__post_init__()

    def setup(self):
        """Declares the readout."""
        self.readout = nn.Dense(2 * self.latent_size)

    def __call__(self, state, x):
        """Takes one input; returns the next state and a belief `[D]`."""
        state, y = self.core(state, self._features(x))
        return state, self._read(y)

    def unroll(self, state, xs):
        """Takes a stream of inputs `[L, ...]`; returns the beliefs `[L, D]`."""
        return self._read(self.core.unroll(state, self._features(xs)))

    def _features(self, x):
        return x if self.encoder is None else self.encoder(x)

    def _read(self, y):
        return DiagGaussian(*jnp.split(self.readout(y), 2, axis=-1))


class Evidence(NamedTuple):
    """The memory of a `BeliefPolicy`."""

    state: Any  # of the core, before it has seen the last step
    step: jax.Array  # [A + 1 + O] the last (a, r, s'); zero at the start of a trial;
    # [H, W, O + A + 1] where s' is an image


class BeliefPolicy(NamedTuple):
    """Any policy without memory, on the observation and a belief (μ, log σ).

    The belief is what the encoder makes of all (a, r, s') since the trial began,
    through episode ends; at its start, of zeros, which makes it the learned prior
    (Zintgraf et al. 2020, arXiv 1910.08348). The last reward and where it was paid are
    part of it when the next episode begins. The parameters are
    `{"encoder": φ, "policy": ψ}`.

    Attributes:
      policy: the policy inside; it must not have been made for a fixed input size.
      encoder: what makes the belief.
      obs_shape: `[O]`, or `[H, W, O]` for images.
      action_size: A, numbers of an action or discrete actions.
      discrete: which of these.
    """

    policy: Policy
    encoder: Encoder
    obs_shape: tuple[int, ...]
    action_size: int
    discrete: bool

    def init(self, key: Key, memory: Evidence, obs: jax.Array) -> Params:
        """Draws φ and ψ."""
        key_encoder, key_policy = jax.random.split(key)
        encoder = self.encoder.init(key_encoder, memory.state, memory.step)
        belief = self.belief({"encoder": encoder}, memory)
        policy = self.policy.init(key_policy, (), join_belief(obs, belief))
        return {"encoder": encoder, "policy": policy}

    def apply(self, params: Params, memory: Evidence, obs: jax.Array):
        """Infers from the last step, then acts."""
        state, belief = self._infer(params, memory)
        joined = join_belief(obs, belief)
        distribution, value, _ = self.policy.apply(params["policy"], (), joined)
        return distribution, value, memory._replace(state=state)

    def initial_memory(self) -> Evidence:
        """Returns the memory at the start of a trial."""
        shape = (*self.obs_shape[:-1], self.obs_shape[-1] + self.action_size + 1)
        return Evidence(self.encoder.core.initial_state(), jnp.zeros(shape))

    def observe(self, memory: Evidence, transition: Trajectory) -> Evidence:
        """Keeps a step for the next inference."""
        return memory._replace(step=self._encode(transition))

    def unroll(self, params: Params, memory: Evidence | None, steps: Trajectory):
        """Returns distributions and values `[L]` along a stream of steps."""
        memory = self.initial_memory() if memory is None else memory
        before = jax.tree.map(lambda x: x[:-1], self.beliefs(params, memory, steps))
        joined = join_belief(steps.obs, before)
        return self.policy.apply(params["policy"], (), joined)[:2]

    def belief(self, params: Params, memory: Evidence) -> DiagGaussian:
        """Returns the belief `[D]` by which the next action is chosen."""
        return self._infer(params, memory)[1]

    def beliefs(
        self, params: Params, memory: Evidence, steps: Trajectory
    ) -> DiagGaussian:
        """Returns the beliefs along a stream of steps.

        Args:
          params: the parameters; only those of the encoder are read.
          memory: before the first step; `initial_memory()` for a whole trial.
          steps: `[L, ...]`, one after the other without gaps
            (`metarl_jax.trials.stream`).

        Returns:
          `[L + 1, D]`: before each step, and after the last.
        """
        xs = jnp.concatenate([memory.step[None], jax.vmap(self._encode)(steps)])
        encode: Any = self.encoder.apply
        return encode(params["encoder"], memory.state, xs, method="unroll")

    def _infer(self, params, memory) -> Any:
        return self.encoder.apply(params["encoder"], memory.state, memory.step)

    def _encode(self, transition):
        action = transition.action
        if self.discrete:
            action = jax.nn.one_hot(action, self.action_size)
        happened = jnp.append(action, transition.reward)
        if len(self.obs_shape) > 1:
            return join(transition.next_obs, happened)
        return jnp.concatenate([happened, transition.next_obs])


def belief_policy(
    tasks: TaskDistribution, policy: Policy, core: Core, *, latent_size: int = 5
) -> BeliefPolicy:
    """Makes a `BeliefPolicy` that fits a task family.

    Args:
      tasks: the family; only its environment's spaces are read.
      policy: how to act on observation and belief, without memory.
      core: what the encoder remembers with: `GRU` or any other.
      latent_size: D.

    Returns:
      A policy with memory.

    Raises:
      ValueError: if the latent size is below 1, the policy has memory, the observation
        is neither a vector nor an image or an action neither a number of choices nor a
        vector.
    """
    check_tasks(tasks)
    images = image_encoder(tasks)
    encoder = Encoder(core, latent_size, images)
    # What it makes of a belief is seen where it acts, or is not one at all.
    check_methods(policy)
    if jax.tree.leaves(policy.initial_memory()):
        raise ValueError(
            "a belief is the only memory; a policy without one is required, got "
            f"{type(policy).__name__}"
        )
    obs, action = tasks.observation, tasks.action_space
    num_actions = spaces.num_choices(action)
    for seen in (obs,) if num_actions else (obs, action):
        if len(getattr(seen, "shape", ())) != 1 and (seen is action or not images):
            raise ValueError(
                f"a vector is required where {tasks.env.name} has {seen!r}"
            )
    size = num_actions or action.shape[0]
    return BeliefPolicy(policy, encoder, obs.shape, size, num_actions is not None)


def join_belief(obs: jax.Array, belief: DiagGaussian) -> jax.Array:
    """Appends a belief's parameters, μ and log σ, to observations `[..., O]`."""
    return join(obs, jnp.concatenate([belief.mean, belief.log_std], axis=-1))

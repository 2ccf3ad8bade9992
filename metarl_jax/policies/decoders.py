"""What a latent variable says of the steps of a trial: likelihoods p(r, s' | m, s, a).

A decoder is asked for the likelihood of all steps together under each of many latents.
How it gets there is its own business: where it predicts without looking at the steps,
their number costs nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from metarl_jax import spaces
from metarl_jax.policies.cnn import image_encoder
from metarl_jax.spaces import join
from metarl_jax.types import Key, Params, TaskDistribution, Trajectory
from metarl_jax.validation import (
    check_finite,
    check_flags,
    check_functions,
    check_positive,
    check_sizes,
    check_tasks,
    shown,
)

_LOG_2PI = 1.8378770664093453


class Decoder(Protocol):
    """A flax module of this shape."""

    def init(self, key: Key, latents: jax.Array, steps: Trajectory, /) -> Params:
        """Draws parameters, given an example of the inputs."""
        ...

    def apply(self, params: Params, latents: jax.Array, steps: Trajectory, /) -> Any:
        """Returns Σ_t log p(r_t, s_{t+1} | m, s_t, a_t) over the valid steps.

        Args:
          params: the parameters.
          latents: `[M, D]`.
          steps: `[L, ...]`, one trial.

        Returns:
          `[M]`, in nats, one for each latent.
        """
        ...


def _hidden(module: nn.Module, sizes: Sequence[int], x: jax.Array) -> jax.Array:
    for i, size in enumerate(sizes):
        x = nn.relu(nn.Dense(size, name=f"hidden_{i}")(x))
    return x


class RewardPerState(nn.Module):
    """The probability that a state pays, one head for each of S states.

    p(r > c | m, s') = sigmoid(f(m)[s']): the authors' decoder of the grid (Zintgraf et
    al. 2020, arXiv 1910.08348, appendix). Because f sees the latent alone, all that
    counts of a trial is how often each state was entered and paid; M latents and L
    steps cost M + L, not M L.

    Attributes:
      num_states: S.
      hidden_sizes: widths of the hidden layers.
      threshold: c, a reward above this pays.
      one_hot: which state an observation is, `[O] -> [S]`; by default the observation
        is that already.
    """

    num_states: int
    hidden_sizes: Sequence[int] = (32, 32)
    threshold: float = 0.0
    one_hot: Callable[[jax.Array], jax.Array] = lambda obs: obs

    def __post_init__(self):
        """Checks the attributes."""
        check_positive(num_states=self.num_states)
        check_sizes(hidden_sizes=self.hidden_sizes)
        check_finite(threshold=self.threshold)
        check_functions(one_hot=self.one_hot)
        super().__post_init__()

    @nn.compact
    def logits(self, latents):
        """Returns the logits `[..., S]` that each state pays, by latents `[..., D]`."""
        x = _hidden(self, self.hidden_sizes, latents)
        return nn.Dense(self.num_states, name="logits")(x)

    def which_pays(self, key, beliefs, *, num_samples=100):
        """Returns the probability that a state is the one that pays, if exactly one is.

        E_{m ~ q} softmax(f(m)): of independent states with log-odds f, given that one
        of them pays. The log-odds themselves are of an entry, not of a state. An agent
        that stays where it is paid hardly enters any other state, which raises them
        all by about as much; the softmax is free of that.

        Args:
          key: of the samples.
          beliefs: a `DiagGaussian` `[..., D]`.
          num_samples: how many.

        Returns:
          `[..., S]`.
        """
        latents = jax.vmap(beliefs.sample)(jax.random.split(key, num_samples))
        return jnp.mean(nn.softmax(self.logits(latents)), axis=0)

    def __call__(self, latents, steps):
        """Returns the log-likelihoods `[M]` of one trial's rewards."""
        entered = jax.vmap(self.one_hot)(steps.next_obs)
        pays = steps.reward > self.threshold
        paid = jnp.sum(jnp.where((steps.mask & pays)[:, None], entered, 0.0), axis=0)
        unpaid = jnp.sum(jnp.where((steps.mask & ~pays)[:, None], entered, 0.0), axis=0)
        logits = self.logits(latents)
        return nn.log_sigmoid(logits) @ paid + nn.log_sigmoid(-logits) @ unpaid


class TransitionDecoder(nn.Module):
    """Reward r from (m, s, a, s') and, if asked to, next state s' from (m, s, a).

    Gaussians whose means are networks and whose variance is 1. The first layer's
    product is a sum of one with the latent and one with the step, so that it costs
    M + L; the layers after it cost M L.

    Attributes:
      num_actions: of a discrete action space; None where actions are vectors.
      hidden_sizes: widths of the hidden layers, of which there is at least one.
      decode_state: whether s' is predicted too.
      encoder: a flax module that makes vectors of what is known of a step, such as a
        `CNN` where states are images.
    """

    num_actions: int | None = None
    hidden_sizes: Sequence[int] = (64, 32)
    decode_state: bool = False
    encoder: Any = None

    def __post_init__(self):
        """Checks the attributes."""
        if self.num_actions is not None:
            check_positive(num_actions=self.num_actions)
        check_sizes(hidden_sizes=self.hidden_sizes)
        check_positive(num_hidden_layers=len(self.hidden_sizes))
        check_flags(decode_state=self.decode_state)
        super().__post_init__()

    def most(self, steps):
        """Returns the greatest log-likelihood that one step can have."""
        size = 1 + (steps.next_obs.shape[-1] if self.decode_state else 0)
        return -0.5 * _LOG_2PI * size

    @nn.compact
    def __call__(self, latents, steps):
        """Returns the log-likelihoods `[M]` of one trial's rewards and states."""
        action = steps.action
        if self.num_actions is not None:
            action = jax.nn.one_hot(action, self.num_actions)
        before = join(steps.obs, action)
        after = jnp.concatenate([before, steps.next_obs], axis=-1)
        targets = {"reward": (after, steps.reward[:, None])}
        if self.decode_state:
            targets["state"] = (before, steps.next_obs)
        total = jnp.zeros(latents.shape[0])
        for name, (x, target) in targets.items():
            x = x if self.encoder is None else self.encoder(x)
            size = target.shape[-1]
            mean = _PairNetwork(self.hidden_sizes, size, name=name)(latents, x)
            log_prob = -0.5 * jnp.sum((target[None] - mean) ** 2 + _LOG_2PI, axis=-1)
            total += jnp.sum(log_prob, axis=-1, where=steps.mask[None])
        return total


class _PairNetwork(nn.Module):
    """A network of all pairs of M latents and L steps, `[M, L, size]`."""

    hidden_sizes: Sequence[int]
    size: int

    @nn.compact
    def __call__(self, latents, x):
        first, *others = self.hidden_sizes
        from_latent = nn.Dense(first, name="from_latent")(latents)
        from_step = nn.Dense(first, use_bias=False, name="from_step")(x)
        hidden = nn.relu(from_latent[:, None] + from_step[None])
        return nn.Dense(self.size, name="mean")(_hidden(self, others, hidden))


def transition_decoder(tasks: TaskDistribution, **kwargs) -> TransitionDecoder:
    """Makes a `TransitionDecoder` that fits a task family's actions.

    Args:
      tasks: the family; only its environment's action space is read.
      **kwargs: attributes of the decoder.

    Raises:
      ValueError: if a size is below 1, there is no hidden layer or images are to be
        predicted.
    """
    check_tasks(tasks)
    kwargs = {"encoder": image_encoder(tasks), **kwargs}
    decoder = TransitionDecoder(spaces.num_choices(tasks.action_space), **kwargs)
    if decoder.decode_state and tasks.observation.ndim != 1:
        raise ValueError(
            "decode_state needs observations that are vectors; those of "
            f"{tasks.env.name} have the shape {tasks.observation.shape}"
        )
    return decoder


def reward_per_state_decoder(tasks: TaskDistribution, **kwargs) -> RewardPerState:
    """Makes a `RewardPerState` for a task family whose observations are its states.

    Args:
      tasks: the family, whose environment tells by `which_state(obs) -> [S]`, one-hot,
        of which state an observation is. Without it observations are that themselves;
        16 episodes are begun, to see whether they are.
      **kwargs: attributes of the decoder but for the number of states.

    Raises:
      ValueError: if a size is below 1, or nothing tells which state is observed.
    """
    check_tasks(tasks)
    which = getattr(tasks.env, "which_state", None)
    if which is not None:
        (num_states,) = jax.eval_shape(which, tasks.observation).shape
        return RewardPerState(num_states, one_hot=which, **kwargs)

    def begin(key):
        key_task, key_reset = jax.random.split(key)
        return tasks.reset(key_reset, tasks.sample(key_task))[0]

    seen: Any = tasks.observation
    one_hot = jax.tree.map(jnp.ndim, seen) == 1
    if one_hot:
        obs = jax.jit(jax.vmap(begin))(jax.random.split(jax.random.key(0), 16))
        one_hot = jnp.all((obs == 0) | (obs == 1)) & jnp.all(jnp.sum(obs, -1) == 1)
        seen = obs[0].tolist()
    if not one_hot:
        raise ValueError(
            "a decoder of the reward per state needs observations that are one-hot, of "
            "a state among S, or an environment whose which_state(obs) is; those of "
            f"{tasks.env.name} are not: {shown(seen)}"
        )
    return RewardPerState(len(seen), **kwargs)

"""Rewards for what is new to a learner that acts on a belief.

To every reward of a trial is added

    b_t = (1 - k / K)₊ σ_r ( w_n clip(n_t / σ_n) + w_e clip(e_t / σ_e) ),

k of K meta-training steps having been taken. n_t is how badly a network that learns
predicts what a random one makes of the hyper-state, the observation and the belief that
the step led to; e_t how badly that belief tells what the step itself was. σ_n, σ_e and
σ_r are the standard deviations, over all of training, of the discounted sums of n, e
and r that a trial has gathered so far (Zintgraf et al. 2021, arXiv 2010.01062; Burda et
al. 2018, arXiv 1810.12894).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax import updates
from metarl_jax.batching import map_tasks
from metarl_jax.distributions import DiagGaussian
from metarl_jax.policies.decoders import Decoder
from metarl_jax.policies.mlp import MLP
from metarl_jax.types import Params, Trajectory
from metarl_jax.validation import (
    check_above_zero,
    check_fraction,
    check_not_negative,
    check_optimizers,
    check_positive,
    check_sizes,
)

CLIP = 10.0


class Bonus(NamedTuple):
    """What is added to the rewards of trials, and learned from them.

    Attributes:
      init: `(key, steps, beliefs) -> state`, of one trial's shapes.
      step: `(key, state, decoder_params, steps, beliefs) -> (reward, state, info)`, of
        trials `[N, L, ...]` and the beliefs `[N, L + 1, D]` before each of their steps
        and after the last; the rewards `[N, L]` are those of the steps, and more.
    """

    init: Callable[..., Any]
    step: Callable[..., Any]


class Moments(NamedTuple):
    """Of everything that was seen so far. All `[]`."""

    number: jax.Array
    mean: jax.Array
    squares: jax.Array  # Σ (x - mean)²


class BonusState(NamedTuple):
    """What the next step's bonuses need."""

    num_steps: jax.Array  # [] meta-training steps that were taken
    random: Params  # of the network that stays as it is
    predictor: Params
    optimizer_state: Any
    novelty: Moments  # of the discounted sums, as the next two
    error: Moments
    reward: Moments


class BonusInfo(NamedTuple):
    """Means over the valid steps, before they are divided. All `[]`."""

    novelty: jax.Array
    error: jax.Array
    added: jax.Array  # to a reward, in the rewards' unit


def no_moments() -> Moments:
    """Returns the moments of nothing."""
    return Moments(jnp.zeros(()), jnp.zeros(()), jnp.zeros(()))


def join_moments(moments: Moments, x: jax.Array, mask: jax.Array) -> Moments:
    """Adds numbers to what was seen (Chan et al. 1979).

    Args:
      moments: of n numbers.
      x: `[...]`, m more of them.
      mask: `[...]` bool, which of them count.

    Returns:
      The moments of all n + m.
    """
    count = jnp.sum(mask, dtype=moments.number.dtype)
    mean = jnp.sum(x, where=mask) / jnp.maximum(count, 1.0)
    squares = jnp.sum(jnp.square(x - mean), where=mask)
    total = jnp.maximum(moments.number + count, 1.0)
    apart = mean - moments.mean
    return Moments(
        moments.number + count,
        moments.mean + apart * count / total,
        moments.squares + squares + apart**2 * moments.number * count / total,
    )


def deviation(moments: Moments) -> jax.Array:
    """Returns the standard deviation of what was seen, or 1 while that is zero."""
    variance = moments.squares / jnp.maximum(moments.number, 1.0)
    return jnp.sqrt(jnp.where(variance > 0, variance, 1.0))


def gathered(reward: jax.Array, *, discount: float | jax.Array) -> jax.Array:
    """Computes the discounted sum up to every step of one trial.

    S_t = γ S_{t-1} + r_t, with S_{-1} = 0.

    Args:
      reward: `[L]`.
      discount: γ in [0, 1].

    Returns:
      `[L]` sums.
    """

    def step(carry, r):
        carry = discount * carry + r
        return carry, carry

    initial = jnp.zeros((), jnp.result_type(reward, discount))
    return jax.lax.scan(step, initial, reward)[1]


def reconstruction_errors(
    decoder: Decoder,
    params: Params,
    latents: jax.Array,
    steps: Trajectory,
) -> jax.Array:
    """Computes how much worse each step was told than it could have been.

    max_x log p(x | m_t) - log p(x_t | m_t): half the squared error of a Gaussian of
    variance 1. A decoder says by its `most(steps)` what the first term is for one step;
    of one that has none it is zero, as it is of probabilities.

    Args:
      decoder: what tells.
      params: its parameters.
      latents: `[L, D]`, one for each step.
      steps: `[L, ...]`.

    Returns:
      `[L]`, in nats.
    """
    most = getattr(decoder, "most", lambda steps: 0.0)(steps)

    def of_one(latent, step):
        one = jax.tree.map(lambda x: x[None], step)
        told: Any = decoder.apply(params, latent[None], one)
        return told[0]

    return most - jax.vmap(of_one)(latents, steps)


def hyperstate_bonus(
    decoder: Decoder,
    *,
    novelty_coeff: float | jax.Array,
    error_coeff: float | jax.Array,
    decay_steps: int,
    novelty_hidden_sizes: tuple[int, ...],
    novelty_output_size: int,
    novelty_scale: float | jax.Array,
    novelty_optimizer: optax.GradientTransformation,
    num_novelty_epochs: int,
    num_minibatches: int,
    discount: float | jax.Array,
) -> Bonus:
    """Makes the two bonuses; the arguments are those of `algorithms.hyperx`.

    Raises:
      ValueError: if a weight is below 0, or a size or count below 1.
    """
    check_not_negative(novelty_coeff=novelty_coeff, error_coeff=error_coeff)
    check_above_zero(novelty_scale=novelty_scale)
    check_fraction(discount=discount)
    check_positive(
        decay_steps=decay_steps,
        novelty_output_size=novelty_output_size,
        num_novelty_epochs=num_novelty_epochs,
        num_minibatches=num_minibatches,
    )
    check_sizes(novelty_hidden_sizes=novelty_hidden_sizes)
    check_optimizers(novelty_optimizer=novelty_optimizer)
    network = MLP(novelty_output_size, novelty_hidden_sizes)
    apply: Any = network.apply

    def init(key, steps, beliefs):
        key_random, key_predictor = jax.random.split(key)
        example = _hyperstates(steps, beliefs)
        drawn = network.init(key_random, example)
        predictor = network.init(key_predictor, example)
        return BonusState(
            jnp.zeros((), jnp.int32),
            jax.tree.map(lambda x: novelty_scale * x, drawn),
            predictor,
            novelty_optimizer.init(predictor),
            *(no_moments() for _ in range(3)),
        )

    def distances(predictor, random, seen):
        """How far apart the networks are on average, `[..., F] -> [...]`."""
        wanted = jax.lax.stop_gradient(apply(random, seen))
        return jnp.mean(jnp.square(apply(predictor, seen) - wanted), axis=-1)

    def in_deviations(moments, x):
        return jnp.clip(x / deviation(moments), -CLIP, CLIP)

    def step(key, state, decoder_params, steps, beliefs):
        key_latents, key_order = jax.random.split(key)
        keys = jax.random.split(key_latents, steps.mask.shape[0])

        def seen(key, steps, beliefs):
            """What one trial holds `[L]`: novelties, errors and the sums of all."""
            states = _hyperstates(steps, beliefs)
            novelty = distances(state.predictor, state.random, states)
            latents = _after(beliefs).sample(key)
            error = reconstruction_errors(decoder, decoder_params, latents, steps)
            three = novelty, error, steps.reward
            sums = [gathered(x, discount=discount) for x in three]
            return states, novelty, error, sums

        states, novelty, error, sums = map_tasks(seen)(keys, steps, beliefs)
        moments = [
            join_moments(old, x, steps.mask)
            for old, x in zip(
                (state.novelty, state.error, state.reward), sums, strict=True
            )
        ]
        part = state.num_steps.astype(novelty.dtype) / jnp.asarray(
            decay_steps, novelty.dtype
        )
        unit = jnp.maximum(1.0 - part, 0.0) * deviation(moments[2])
        added = unit * (
            novelty_coeff * in_deviations(moments[0], novelty)
            + error_coeff * in_deviations(moments[1], error)
        )
        added = jnp.where(steps.mask, added, 0.0).astype(steps.reward.dtype)

        def loss(predictor, states, mask):
            return jnp.mean(distances(predictor, state.random, states), where=mask)

        def update(carry, index):
            predictor, optimizer_state = carry
            value, gradient = jax.value_and_grad(loss)(
                predictor, states[index], steps.mask[index]
            )
            return updates.descend(
                novelty_optimizer, optimizer_state, predictor, gradient, value
            ), None

        order = jax.vmap(partial(jax.random.permutation, x=len(keys)))(
            jax.random.split(key_order, num_novelty_epochs)
        )
        (predictor, optimizer_state), _ = jax.lax.scan(
            update,
            (state.predictor, state.optimizer_state),
            order.reshape(num_novelty_epochs * num_minibatches, -1),
        )
        new = BonusState(
            state.num_steps + 1, state.random, predictor, optimizer_state, *moments
        )
        means = (jnp.mean(x, where=steps.mask) for x in (novelty, error, added))
        return steps.reward + added, new, BonusInfo(*means)

    return Bonus(init, step)


def _after(beliefs: DiagGaussian) -> DiagGaussian:
    """Returns the beliefs that the steps led to, `[L, D]` of `[L + 1, D]`."""
    return jax.tree.map(lambda x: x[1:], beliefs)


def _hyperstates(steps: Trajectory, beliefs: DiagGaussian) -> jax.Array:
    """Returns what each step led to, observation and belief, `[L, F]`."""
    after = _after(beliefs)
    flat = steps.next_obs.reshape(len(steps.next_obs), -1).astype(after.mean.dtype)
    return jnp.concatenate([flat, after.mean, after.log_std], axis=-1)

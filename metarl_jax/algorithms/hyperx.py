"""HyperX: VariBAD that is paid for coming to hyper-states it does not know yet.

A hyper-state is a state and a belief about the task. Where rewards are too sparse for a
posterior to begin with, nothing tells VariBAD's policy to look for them; so while it is
trained every reward has two more added to it,

    r⁺_t = r_t + (1 - k / K)₊ σ_r ( w_n clip(n_t / σ_n) + w_e clip(e_t / σ_e) ),

in step k of K. n_t = mean (f(s_{t+1}, b_{t+1}) - g(s_{t+1}, b_{t+1}))² is how far a
network g that learns is from a random f, and falls where it has been before; e_t is how
badly the belief b_{t+1} tells (r_t, s_{t+1}), which asks for what the encoder does not
know yet. σ are standard deviations, over training, of the discounted sums of n, e and r
that a trial has gathered; quotients are clipped at 10 (Zintgraf et al. 2021, arXiv
2010.01062). The belief is inferred from the rewards r alone.

The authors divide r by σ_r, and clip it, instead of multiplying the bonuses with it:
then weights of zero would not be VariBAD. They train g on hyper-states of a buffer, and
this on those of the step.
"""

from typing import Any

import jax
import optax

from metarl_jax.algorithms.varibad import varibad
from metarl_jax.bonuses import hyperstate_bonus
from metarl_jax.policies.decoders import Decoder, transition_decoder
from metarl_jax.types import MetaAlgorithm, Policy, TaskDistribution


def hyperx(
    tasks: TaskDistribution,
    policy: Policy,
    *,
    novelty_coeff: float | jax.Array = 10.0,
    error_coeff: float | jax.Array = 1.0,
    decay_steps: int = 2000,
    novelty_hidden_sizes: tuple[int, ...] = (256, 256),
    novelty_output_size: int = 128,
    novelty_scale: float | jax.Array = 10.0,
    novelty_optimizer: optax.GradientTransformation | None = None,
    num_novelty_epochs: int = 1,
    decoder: Decoder | None = None,
    num_minibatches: int = 2,
    discount: float | jax.Array = 0.98,
    **kwargs: Any,
) -> MetaAlgorithm:
    """Builds HyperX for a task distribution and a policy without memory.

    Args:
      tasks: the task distribution.
      policy: how an agent acts that sees observation and belief as one vector.
      novelty_coeff: w_n, weight of a hyper-state's novelty; the authors' in rooms.
      error_coeff: w_e, weight of the decoder's error.
      decay_steps: K, meta-training steps in which both fall to zero; all of training.
      novelty_hidden_sizes: widths of the hidden layers of f and g.
      novelty_output_size: how many numbers they make of a hyper-state.
      novelty_scale: f's weights are as many times those of an initialisation.
      novelty_optimizer: of g; default `optax.adam(1e-4)`.
      num_novelty_epochs: g's passes through one step's hyper-states.
      decoder: p(r, s' | m, s, a); default a `TransitionDecoder` of the reward.
      num_minibatches: updates in a pass, of g as of the others.
      discount: γ, per step, across episode ends.
      **kwargs: further arguments of `varibad`.

    Returns:
      A `MetaAlgorithm`; its info has a field `bonus`.

    Raises:
      ValueError: if a weight is below 0, a size or count below 1, or as `varibad` does.
    """
    if novelty_optimizer is None:
        novelty_optimizer = optax.adam(1e-4)
    if decoder is None:
        decoder = transition_decoder(tasks)
    bonus = hyperstate_bonus(
        decoder,
        novelty_coeff=novelty_coeff,
        error_coeff=error_coeff,
        decay_steps=decay_steps,
        novelty_hidden_sizes=novelty_hidden_sizes,
        novelty_output_size=novelty_output_size,
        novelty_scale=novelty_scale,
        novelty_optimizer=novelty_optimizer,
        num_novelty_epochs=num_novelty_epochs,
        num_minibatches=num_minibatches,
        discount=discount,
    )
    return varibad(
        tasks,
        policy,
        bonus=bonus,
        decoder=decoder,
        num_minibatches=num_minibatches,
        discount=discount,
        **kwargs,
    )

"""The inner loop: adaptation by gradient steps that can itself be differentiated.

A meta-gradient goes back through K steps, and what it needs of each is either kept from
the way forward or computed again on the way back. Which, is the argument
`differentiation`; the numbers are the same but for rounding. The data of all steps are
kept whatever the choice.

- "plain": reverse mode over reverse mode, as `jax.grad` does unasked. Keeps for every
  step the activations of the policy and the cotangents of the inner gradient.
- "rematerialised": keeps of every step what it begins with, θ_k and the optimiser's
  state, and computes the rest again, for one step at a time (`jax.checkpoint`).
- "mixed": keeps the inner gradient as well, and differentiates it forward over reverse
  (`mixed_mode_gradient`; MixFlow-MG, Kemaev et al. 2025, arXiv 2505.00793). For a loss
  that is one pass over a batch as good as "rematerialised"; where the loss holds a loop
  (over time, over rematerialised layers) the step at hand takes a half to a quarter of
  the memory. Reverse mode alone passes it: no `jax.jvp`, no `jax.hessian`.
- a policy of `jax.checkpoint_policies`: as "rematerialised", but keeps what it names.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.ad_checkpoint import checkpoint_name

from metarl_jax.promotion import standard_promotion
from metarl_jax.types import Agent, Differentiation, Params
from metarl_jax.validation import (
    check_differentiable,
    check_differentiation,
    check_optimizers,
)


def gradient_step(
    loss: Callable[[Params, Any], Any],
    optimizer: optax.GradientTransformation,
    *,
    first_order: bool = False,
    has_aux: bool = False,
    differentiation: Differentiation = "plain",
) -> Callable[[Agent, Any], Any]:
    """Makes one adaptation step out of a loss and an optax optimiser.

    θ' = θ + u(∇_θ L(θ; D), s), with u the optimiser's update and s its state, which
    rides in `agent.inner_state`. For `optax.sgd(α)` this is θ' = θ - α ∇L(θ; D)
    (Finn et al. 2017, arXiv 1703.03400, equation 1).

    Args:
      loss: `(params, data) -> []`, differentiable twice.
      optimizer: any optax transformation; one whose update has no derivative where a
        gradient's entry is 0, as Adam's without `eps_root`, is for `first_order` alone.
      first_order: whether to treat the inner gradient as a constant, which drops every
        second derivative (∂θ'/∂θ = I under SGD).
      has_aux: whether the loss returns a pair, as in `jax.grad`: something else of θ
        that needs the same evaluation of the policy.
      differentiation: what a derivative through the step keeps and what it computes
        again, as the module's head says.

    Returns:
      `(agent, data) -> Agent`, or with `has_aux` `-> (Agent, aux)`.

    Raises:
      ValueError: if the optimiser is none or cannot be differentiated through, or there
        is no such differentiation.
    """
    check_optimizers(inner_optimizer=optimizer)
    if not first_order:
        check_differentiable(inner_optimizer=optimizer)
    check_differentiation(differentiation)
    mixed = differentiation == "mixed"
    make = mixed_mode_gradient if mixed and not first_order else jax.grad
    inner_gradient = make(loss, has_aux=has_aux)

    def step(agent, data):
        gradient = inner_gradient(agent.params, data)
        if mixed:
            gradient = checkpoint_name(gradient, "inner_gradient")
        gradient, *aux = gradient if has_aux else (gradient,)
        if first_order:
            gradient = jax.lax.stop_gradient(gradient)
        with standard_promotion():
            updates, inner_state = optimizer.update(
                gradient, agent.inner_state, agent.params
            )
            params = optax.apply_updates(agent.params, updates)
        adapted = agent._replace(params=params, inner_state=inner_state)
        return (adapted, *aux) if has_aux else adapted

    if differentiation == "plain":
        return step
    if differentiation == "rematerialised":
        return jax.checkpoint(step)
    if mixed:
        kept = jax.checkpoint_policies.save_only_these_names("inner_gradient")
        return jax.checkpoint(step, policy=kept)
    return jax.checkpoint(step, policy=differentiation)


def mixed_mode_gradient(
    loss: Callable[[Params, Any], Any], *, has_aux: bool = False
) -> Callable[[Params, Any], Any]:
    """Makes the gradient of a loss, itself differentiated forward over reverse.

    For cotangents u of ∇_θ L(θ; D) and w of the auxiliary output y(θ; D), reverse mode
    wants the gradient, in θ and D, of ⟨∇_θ L, u⟩ + ⟨y, w⟩. Since ⟨∇_θ L, u⟩ is the
    derivative of L along u, and derivatives commute, that is

        d/dε ∇_{θ,D} [ L(θ + ε u; D) + ε ⟨y(θ + ε u; D), w⟩ ]    at ε = 0,

    in θ and without w the Hessian product H u: one forward derivative of one reverse
    pass. It needs θ and D alone, where reverse over reverse keeps the activations and
    cotangents of the first pass until the second is over (MixFlow-MG, Kemaev et al.
    2025, arXiv 2505.00793).

    Args:
      loss: `(params, data) -> []`, or a pair with `has_aux`; differentiable twice, also
        in what it closes over.
      has_aux: whether the loss returns a pair; what is beside it must be arrays.

    Returns:
      The function `jax.grad(loss, has_aux=has_aux)`, for reverse mode alone.
    """

    def gradient(params, data):
        # A value that the loss closes over may be what is learned.
        closed_loss, closed_over = jax.closure_convert(loss, params, data)

        def value_and_aux(params, data, closed_over):
            output = closed_loss(params, data, *closed_over)
            return output if has_aux else (output, ())

        @jax.custom_vjp
        def evaluate(*arguments):
            return jax.grad(value_and_aux, has_aux=True)(*arguments)

        def forward(*arguments):
            return evaluate(*arguments), arguments

        def backward(arguments, cotangents):
            params, *others = arguments
            direction, aux_cotangent = cotangents

            def reverse(params, epsilon):
                (value, _), pullback = jax.vjp(value_and_aux, params, *others)
                weights = jax.tree.map(
                    lambda w: w if _has_no_derivative(w) else epsilon * w, aux_cotangent
                )
                return jax.tree.map(
                    lambda x: None if _has_no_derivative(x) else x,
                    pullback((jnp.ones_like(value), weights)),
                )

            return jax.jvp(reverse, (params, 0.0), (direction, 1.0))[1]

        evaluate.defvjp(forward, backward)
        output, aux = evaluate(params, data, closed_over)
        return (output, aux) if has_aux else output

    return gradient


def _has_no_derivative(cotangent: jax.Array) -> bool:
    """Tells the cotangent of an integer, a boolean or a key."""
    return cotangent.dtype == jax.dtypes.float0


def adapt(step: Callable[[Agent, Any], Agent], agent: Agent, data: Any) -> Agent:
    """Takes K adaptation steps on recorded data; differentiable in the agent.

    Args:
      step: one adaptation step, `(agent, data) -> Agent`.
      agent: where adaptation starts.
      data: `[K, ...]`, each step's own data.

    Returns:
      The agent after K steps.
    """
    return jax.lax.scan(lambda agent, d: (step(agent, d), None), agent, data)[0]

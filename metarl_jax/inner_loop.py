"""The inner loop: adaptation by gradient steps that can itself be differentiated."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from metarl_jax.types import Agent, Params


def gradient_step(
    loss: Callable[[Params, Any], Any],
    optimizer: optax.GradientTransformation,
    *,
    first_order: bool = False,
    has_aux: bool = False,
) -> Callable[[Agent, Any], Any]:
    """Makes one adaptation step out of a loss and an optax optimiser.

    θ' = θ + u(∇_θ L(θ; D), s), with u the optimiser's update and s its state, which
    rides in `agent.inner_state`. For `optax.sgd(α)` this is θ' = θ - α ∇L(θ; D)
    (Finn et al. 2017, arXiv 1703.03400, equation 1).

    Args:
      loss: `(params, data) -> []`, differentiable twice.
      optimizer: any optax transformation. Adam needs `eps_root > 0`, or a gradient
        entry that is exactly zero makes the meta-gradient NaN.
      first_order: whether to treat the inner gradient as a constant, which drops every
        second derivative (∂θ'/∂θ = I under SGD).
      has_aux: whether the loss returns a pair, as in `jax.grad`: something else of θ
        that needs the same evaluation of the policy.

    Returns:
      `(agent, data) -> Agent`, or with `has_aux` `-> (Agent, aux)`.
    """

    def step(agent, data):
        gradient = jax.grad(loss, has_aux=has_aux)(agent.params, data)
        gradient, *aux = gradient if has_aux else (gradient,)
        if first_order:
            gradient = jax.lax.stop_gradient(gradient)
        updates, inner_state = optimizer.update(
            gradient, agent.inner_state, agent.params
        )
        params = optax.apply_updates(agent.params, updates)
        adapted = agent._replace(params=params, inner_state=inner_state)
        return (adapted, *aux) if has_aux else adapted

    return step


def adapt(
    step: Callable[[Agent, Any], Agent],
    agent: Agent,
    data: Any,
    *,
    rematerialise: bool = False,
) -> Agent:
    """Takes K adaptation steps on recorded data; differentiable in the agent.

    Args:
      step: one adaptation step, `(agent, data) -> Agent`.
      agent: where adaptation starts.
      data: `[K, ...]`, each step's own data.
      rematerialise: whether to compute a step's activations again on the backward pass
        instead of keeping those of all K steps.

    Returns:
      The agent after K steps.
    """
    body = jax.checkpoint(step) if rematerialise else step
    return jax.lax.scan(lambda agent, d: (body(agent, d), None), agent, data)[0]

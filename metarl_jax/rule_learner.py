"""An agent that learns by a network's rule, of what it saw and what it predicted.

The rule says of every step of a piece what is wanted of the agent, π̂ and ŷ
(`metarl_jax.rule_network`), and the agent θ takes

    θ' = θ + α ∇_θ mean_t [ log π_θ(a_t | o_t) π̂_t - α_y KL(y_θ(o_t) ‖ ŷ_t) ].
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax import inner_loop
from metarl_jax.policies.predicting import PredictingPolicy
from metarl_jax.rule_network import Aims, Seen
from metarl_jax.types import Agent, Differentiation, Trajectory


class Learner(NamedTuple):
    """What an agent carries from update to update, in `inner_state`."""

    optimizer_state: Any
    rule: Any  # η
    age: jax.Array  # [] int32, updates


def learner(
    acting: PredictingPolicy,
    network: Any,
    *,
    optimizer: optax.GradientTransformation,
    prediction_coeff: float | jax.Array,
    lifetime: int,
    differentiation: Differentiation = "plain",
) -> Callable[[Agent, Trajectory], tuple[Agent, Aims]]:
    """Makes `(agent, pieces [W, T]) -> (agent, aims)`, one update by the agent's rule.

    Differentiable in the rule and in the agent.

    Args:
      acting: how the agent acts and predicts.
      network: a flax module like `metarl_jax.rule_network.UpdateRule`.
      optimizer: moves the agent.
      prediction_coeff: α_y.
      lifetime: updates of a life.
      differentiation: what a derivative keeps of the update
        (`metarl_jax.inner_loop`).
    """
    memory = acting.initial_memory()

    def loss(params, data):
        trajectories, aims = data
        distribution, _, _ = acting.apply(params, memory, trajectories.obs)
        log_prob = distribution.log_prob(trajectories.action)
        log_y = jax.nn.log_softmax(acting.predict(params, trajectories.obs))
        log_aim = jax.nn.log_softmax(aims.prediction)
        divergence = jnp.sum(jnp.exp(log_y) * (log_y - log_aim), axis=-1)
        gain = log_prob * aims.policy - prediction_coeff * divergence
        return -jnp.mean(gain, where=trajectories.mask)

    step = inner_loop.gradient_step(loss, optimizer, differentiation=differentiation)

    def learn(agent, trajectories):
        held = agent.inner_state
        seen = what_is_seen(acting, agent.params, trajectories, held.age, lifetime)
        aims = jax.vmap(partial(network.apply, held.rule))(seen)
        moved = agent._replace(inner_state=held.optimizer_state)
        moved = step(moved, (trajectories, aims))
        held = held._replace(optimizer_state=moved.inner_state, age=held.age + 1)
        return moved._replace(inner_state=held), aims

    return learn


def what_is_seen(
    acting: PredictingPolicy,
    params: Any,
    trajectories: Trajectory,
    age: jax.Array,
    lifetime: int,
) -> Seen:
    """Returns what a rule sees of pieces `[W, T]`; differentiable in the agent's θ."""
    memory = acting.initial_memory()
    distribution, _, _ = acting.apply(params, memory, trajectories.obs)
    now, after = (
        jax.nn.softmax(acting.predict(params, obs))
        for obs in (trajectories.obs, trajectories.next_obs)
    )
    mask = trajectories.mask
    told = jnp.stack([age.astype(float) / lifetime, jnp.log(float(lifetime)) / 10.0])
    return Seen(
        jnp.where(mask, trajectories.reward, 0.0),
        trajectories.terminated,
        trajectories.terminated | trajectories.truncated,
        jnp.exp(distribution.log_prob(trajectories.action)),
        now,
        after,
        jnp.broadcast_to(told, (len(mask), 2)),
    )


def nothing_seen(num_predictions: int, length: int) -> Seen:
    """What a rule sees, as zeros, to draw its parameters by."""
    flags, y = jnp.zeros(length, bool), jnp.zeros((length, num_predictions))
    return Seen(jnp.zeros(length), flags, flags, jnp.zeros(length), y, y, jnp.zeros(2))

"""DiscoRL: a discovered rule that tells an agent what to predict (Oh et al. 2025).

An agent predicts, of every observation o and action a, its policy π(o), two vectors
without given meaning y(o) and z(o, a), its next policy and an action value q(o, a). The
rule, a network trained on many environments, reads a trajectory backwards and says what
the first three should have been:

    L = KL(π̂ ‖ π) + KL(ŷ ‖ y) + KL(ẑ ‖ z(·, a)) + KL(π(o') ‖ π_next(·, a)) + L_q / 5,

the last from Retrace. A second recurrent network goes once through all updates of the
agent's lifetime and scales what the first one says (doi 10.1038/s41586-025-09761-x).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax import returns

VALUE_BINS = 601  # whole numbers from -300 to 300, of h(value)
PREDICTION_SIZE = 600
DISCOUNT = 0.997
TRACE = 0.95
AVERAGE_DECAY = 0.99
VALUE_COST = 0.2


class Predictions(NamedTuple):
    """What an agent makes of observations, logits; bins of values have some as well.

    Where it was asked of one action alone, the last three lack the first of their axes.
    """

    logits: jax.Array  # [..., A] of the policy
    y: jax.Array  # [..., 600]
    z: jax.Array  # [..., A, 600]
    next_logits: jax.Array  # [..., A, A] of the policy one step later
    q: jax.Array  # [..., A, 601]


class Experience(NamedTuple):
    """What happened, `[B, T]`: B trajectories, with an observation after the last step.

    Where an episode ends, the next step's observation is the next episode's first.
    """

    action: jax.Array  # [B, T + 1] int32; the last is not looked at
    reward: jax.Array  # [B, T]
    ended: jax.Array  # [B, T] bool, the step ended an episode
    behaviour_logits: jax.Array  # [B, T + 1, A] of the policy that acted


class Average(NamedTuple):
    """Exponential averages of a number and of its square."""

    first: jax.Array
    second: jax.Array
    weight: jax.Array  # of what they began with, zero


class RuleState(NamedTuple):
    """What the rule remembers of an agent's lifetime."""

    hidden: jax.Array  # [H]
    cell: jax.Array  # [H]
    advantage: Average
    td_error: Average


class Values(NamedTuple):
    """Action values and what Retrace makes of them, in units of the reward."""

    value: jax.Array  # [B, T + 1] Σ_a π(a) q(a) of the agent
    q: jax.Array  # [B, T + 1, A] of the agent
    target_q: jax.Array  # [B, T + 1, A] of the slow copy of it
    q_target: jax.Array  # [B, T]
    q_advantage: jax.Array  # [B, T + 1, A]
    advantage: jax.Array  # [B, T]
    td_error: jax.Array  # [B, T]


class Targets(NamedTuple):
    """What the agent's predictions should have been, logits."""

    logits: jax.Array  # [B, T, A]
    y: jax.Array  # [B, T, 600]
    z: jax.Array  # [B, T, 600]


def compress(x: jax.Array) -> jax.Array:
    """h(x) = sign(x) (√(|x| + 1) - 1) + x / 1000 (Pohlen et al. 2018, 1805.11593)."""
    return jnp.sign(x) * (jnp.sqrt(jnp.abs(x) + 1.0) - 1.0) + 1e-3 * x


def expand(x: jax.Array) -> jax.Array:
    """h⁻¹; as a root less one it would keep three digits near zero in float32."""
    u = 4e-3 * (1.001 + jnp.abs(x))
    root = jnp.expm1(0.5 * jnp.log1p(u)) / 2e-3
    return jnp.sign(x) * (jnp.square(root) - 1.0)


def scalar(logits: jax.Array) -> jax.Array:
    """Returns the value that bins stand for, h⁻¹(Σ_i p_i i), `[..., 601] -> [...]`."""
    most = VALUE_BINS // 2
    bins = jnp.arange(-most, most + 1, dtype=logits.dtype)
    return expand(jnp.sum(jax.nn.softmax(logits) * bins, axis=-1))


def two_bins(value: jax.Array) -> jax.Array:
    """Returns the weights of the two bins around h(value), `[...] -> [..., 601]`."""
    most = VALUE_BINS // 2
    bins = jnp.arange(-most, most + 1, dtype=value.dtype)
    place = jnp.clip(compress(value), -most, most)
    return jnp.maximum(1.0 - jnp.abs(place[..., None] - bins), 0.0)


def averaged(average: Average, x: jax.Array) -> Average:
    """Moves the averages towards the means of x and x²."""
    keep = AVERAGE_DECAY

    def towards(old, new):
        return keep * old + (1.0 - keep) * jnp.mean(new)

    return Average(
        towards(average.first, x),
        towards(average.second, jnp.square(x)),
        keep * average.weight,
    )


def moments(average: Average) -> tuple[jax.Array, jax.Array]:
    """Returns the mean and the standard deviation, freed of the zero at the start."""
    known = 1.0 - average.weight
    mean = average.first / known
    variance = jnp.maximum(average.second / known - jnp.square(mean), 0.0)
    return mean, jnp.sqrt(variance + 1e-12) + 1e-6


def values(agent: Predictions, target: Predictions, experience: Experience) -> Values:
    """Estimates action values by Retrace from those of the agent's slow copy.

    Args:
      agent: `[B, T + 1]`.
      target: `[B, T + 1]`, of the slow copy.
      experience: what happened.
    """
    pi = jax.nn.softmax(agent.logits)
    q, target_q = scalar(agent.q), scalar(target.q)
    value = jnp.sum(pi * q, axis=-1)
    target_value = jnp.sum(pi * target_q, axis=-1)
    action = experience.action[:, :-1]
    log_ratio = log_prob(agent.logits, experience.action) - log_prob(
        experience.behaviour_logits, experience.action
    )
    trace = TRACE * jnp.minimum(jnp.exp(log_ratio[:, :-1]), 1.0)
    q_target = jax.vmap(returns.retrace)(
        experience.reward,
        DISCOUNT * (1.0 - experience.ended),
        of_action(target_q[:, :-1], action),
        target_value[:, 1:],
        trace,
    )
    return Values(
        value,
        q,
        target_q,
        q_target,
        target_q - target_value[..., None],
        q_target - target_value[:, :-1],
        q_target - of_action(q[:, :-1], action),
    )


def of_action(x: jax.Array, action: jax.Array) -> jax.Array:
    """Takes each action's row, `[B, T, A, ...], [B, T] -> [B, T, ...]`."""
    index = action.reshape(*action.shape, *(1,) * (x.ndim - 2))
    return jnp.take_along_axis(x, index, axis=2).squeeze(2)


def taken(agent: Predictions, action: jax.Array) -> Predictions:
    """Returns what was predicted of one action each, `[B, T + 1]`."""
    z, next_logits, q = (
        of_action(x, action) for x in (agent.z, agent.next_logits, agent.q)
    )
    return agent._replace(z=z, next_logits=next_logits, q=q)


def log_prob(logits: jax.Array, action: jax.Array) -> jax.Array:
    """Returns log π(a), `[B, T, A], [B, T] -> [B, T]`."""
    return of_action(jax.nn.log_softmax(logits), action)


def divergence(target: jax.Array, logits: jax.Array) -> jax.Array:
    """Returns KL(target ‖ prediction) of two vectors of logits, `[..., K] -> [...]`."""
    log_p, log_q = jax.nn.log_softmax(target), jax.nn.log_softmax(logits)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def losses(
    agent: Predictions, experience: Experience, targets: Targets, td_error: jax.Array
) -> dict[str, jax.Array]:
    """Computes each step's losses, `[B, T]`; `"total"` is what the agent descends.

    Args:
      agent: `[B, T + 1]`, of the actions that were taken; differentiable.
      experience: what happened.
      targets: what the rule says.
      td_error: `[B, T]`, the constant by which each action's value is to change.
    """
    before = jax.tree.map(lambda x: x[:, :-1], agent)
    next_logits = jax.lax.stop_gradient(agent.logits[:, 1:])
    bins = two_bins(jax.lax.stop_gradient(scalar(before.q) + td_error))
    each = {
        "pi": divergence(targets.logits, before.logits),
        "y": divergence(targets.y, before.y),
        "z": divergence(targets.z, before.z),
        "next_pi": divergence(next_logits, before.next_logits)
        * (1.0 - experience.ended),
        "q": -jnp.sum(bins * jax.nn.log_softmax(before.q), axis=-1),
    }
    total = each["pi"] + each["y"] + each["z"] + each["next_pi"]
    return {**each, "total": total + VALUE_COST * each["q"]}

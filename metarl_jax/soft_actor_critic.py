"""The losses of soft actor-critic, for continuous and for discrete actions.

Maximises E[ Σ_t γ^t (r_t + α H(π(·|o_t))) ] from steps that anybody may have taken. As
in Haarnoja et al. 2018 (arXiv 1812.05905) the smaller of two Q functions counts and
each has a slowly moving copy that the targets are made of; there is no separate V. For
discrete actions every expectation over them is a sum (Christodoulou 2019, arXiv
1910.07207).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.distributions import Categorical
from metarl_jax.spaces import join
from metarl_jax.types import Distribution, Key, Observation, Params, Policy, Trajectory


class Transition(NamedTuple):
    """One step, without what depends on who took it."""

    obs: Observation
    action: jax.Array
    reward: jax.Array
    next_obs: Observation
    terminated: jax.Array


def transitions(trajectories: Trajectory) -> tuple[Transition, jax.Array]:
    """Keeps what is learned from, of trajectories of any shape.

    Args:
      trajectories: `[..., T]`.

    Returns:
      The transitions, and which of them to learn from: the steps that were taken, but
      for those that hold what is not finite, as they would come back again and again.
    """
    fields = {name: getattr(trajectories, name) for name in Transition._fields}
    usable = trajectories.mask
    for x in jax.tree.leaves(fields):
        finite = jnp.isfinite(x)
        usable &= jnp.all(finite, axis=tuple(range(usable.ndim, x.ndim)))
    return Transition(**fields), usable


class TwinCritic(NamedTuple):
    """Two Q functions of one architecture; their parameters are a pair.

    Attributes:
      network: a flax module `[..., D] -> [..., A]`, of the observation for discrete
        actions, or `-> [..., 1]`, of observation and action.
      num_actions: A; None for continuous actions.
    """

    network: Any
    num_actions: int | None

    def init(self, key: Key, obs: jax.Array, action: jax.Array) -> Params:
        """Draws the parameters of both, given an example of the inputs."""
        x = obs if self.num_actions else join(obs, action)
        return tuple(self.network.init(one, x) for one in jax.random.split(key))

    def apply(
        self, params: Params, obs: jax.Array, action: jax.Array | None
    ) -> list[jax.Array]:
        """Returns Q₁ and Q₂ of actions `[...]`; for None of every one, `[..., A]`."""
        if self.num_actions is None:
            x = join(obs, action)  # pyright: ignore
            return [self.network.apply(one, x)[..., 0] for one in params]
        values = [self.network.apply(one, obs) for one in params]
        if action is None:
            return values
        taken = jax.nn.one_hot(action, self.num_actions)
        return [jnp.sum(value * taken, axis=-1) for value in values]


def td_target(
    reward: jax.Array,
    terminated: jax.Array,
    next_value: jax.Array,
    *,
    discount: float | jax.Array,
) -> jax.Array:
    """Returns r + γ (1 - d) V(o'); where only time ran out the future still counts."""
    return reward + discount * jnp.where(terminated, 0.0, next_value)


def soft_value(
    key: Key,
    distribution: Distribution,
    critic: TwinCritic,
    critic_params: Params,
    obs: jax.Array,
    temperature: float | jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Computes V(o) = E_{a ~ π}[ min_i Q_i(o, a) - α log π(a|o) ].

    The sum for a `Categorical`; otherwise one sample, differentiable in π.

    Args:
      key: consumed.
      distribution: π at the observations; a `Categorical`, or one with a method
        `sample_and_log_prob`.
      critic: the Q functions.
      critic_params: theirs.
      obs: `[..., D]`.
      temperature: α.

    Returns:
      V and the entropy E[-log π], or their estimates, `[...]`.
    """
    if isinstance(distribution, Categorical):
        q = jnp.minimum(*critic.apply(critic_params, obs, None))
        entropy = distribution.entropy()
        expected = jnp.sum(jax.nn.softmax(distribution.logits) * q, axis=-1)
        return expected + temperature * entropy, entropy
    action, log_prob = distribution.sample_and_log_prob(key)  # pyright: ignore
    q = jnp.minimum(*critic.apply(critic_params, obs, action))
    return q - temperature * log_prob, -log_prob


def critic_loss(
    key: Key,
    actor: Policy,
    actor_params: Params,
    critic: TwinCritic,
    critic_params: Params,
    target_params: Params,
    steps: Transition,
    *,
    temperature: float | jax.Array,
    discount: float | jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Computes Σ_i mean (Q_i(o, a) - y)², y = r + γ (1 - d) V(o').

    The gradient goes to the critics' parameters and to `steps.obs`, from where it may
    reach what made them; y is a constant.

    Args:
      key: consumed.
      actor: π, without memory.
      actor_params: π's.
      critic: the Q functions.
      critic_params: theirs.
      target_params: those of their slow copies, which V is made of.
      steps: `[B, ...]`.
      temperature: α.
      discount: γ.

    Returns:
      The loss and the mean of Q₁, `[]`.
    """
    distribution = actor.apply(actor_params, (), steps.next_obs)[0]
    next_value, _ = soft_value(
        key, distribution, critic, target_params, steps.next_obs, temperature
    )
    target = jax.lax.stop_gradient(
        td_target(steps.reward, steps.terminated, next_value, discount=discount)
    )
    q = critic.apply(critic_params, steps.obs, steps.action)
    loss = sum(jnp.mean((one - target) ** 2) for one in q)
    return jnp.asarray(loss), jnp.mean(q[0])


def actor_loss(
    key: Key,
    actor: Policy,
    actor_params: Params,
    critic: TwinCritic,
    critic_params: Params,
    obs: jax.Array,
    *,
    temperature: float | jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Computes -mean V(o), whose gradient goes to the actor's parameters alone.

    Args:
      key: consumed.
      actor: π, without memory.
      actor_params: π's.
      critic: the Q functions.
      critic_params: theirs.
      obs: `[B, D]`.
      temperature: α.

    Returns:
      The loss and the policy's mean entropy, `[]`.
    """
    obs, critic_params, temperature = jax.lax.stop_gradient(
        (obs, critic_params, temperature)
    )
    distribution = actor.apply(actor_params, (), obs)[0]
    value, entropy = soft_value(
        key, distribution, critic, critic_params, obs, temperature
    )
    return -jnp.mean(value), jnp.mean(entropy)

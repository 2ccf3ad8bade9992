"""Many critics for many discounts, and the terms of an actor-critic of whole trials.

Of one trial as a stream of L steps, with what a memory made of it, y `[L, H]`. For G
discounts γ_g at once, the critics i = 1 … C of each learn

    Q_i(y_t, a_t, g) → r_t + γ_g min_{j ∈ J} E_{a ~ π_g} Q̄_j(y_{t+1}, a, g),

with J some of the slow copies Q̄ (Chen et al. 2021, arXiv 2101.05982). The next step is
the trial's next, whether or not an episode ended; after the trial's last there is none.
An actor π_g climbs min_i E_{a ~ π_g} Q_i and imitates the actions that were better than
its own, f(A) = 1[A > 0] (Wang et al. 2020, arXiv 2006.15134; Grigsby et al. 2024, arXiv
2310.09971).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.distributions import Categorical
from metarl_jax.soft_actor_critic import td_target
from metarl_jax.spaces import join
from metarl_jax.types import Distribution, Key, Params


class CriticEnsemble(NamedTuple):
    """C critics of one architecture; their parameters are stacked, `[C, ...]`.

    Attributes:
      network: a flax module `[..., H] -> [..., G A]` for discrete actions, or
        `[..., H + D] -> [..., G]`, of what is remembered and the action.
      num_critics: C.
      num_discounts: G.
      num_actions: A; None for continuous actions.
    """

    network: Any
    num_critics: int
    num_discounts: int
    num_actions: int | None

    def init(self, key: Key, features: jax.Array, action: jax.Array) -> Params:
        """Draws the parameters of all, given an example of the inputs."""
        x = features if self.num_actions else join(features, action)
        keys = jax.random.split(key, self.num_critics)
        return jax.vmap(lambda key: self.network.init(key, x))(keys)

    def of_taken(
        self, params: Params, features: jax.Array, action: jax.Array
    ) -> jax.Array:
        """Returns Q of the actions that were taken.

        Args:
          params: `[C, ...]`.
          features: `[L, H]`.
          action: `[L, ...]`.

        Returns:
          `[C, L, G]`.
        """
        if self.num_actions is None:
            return self._apply(params, join(features, action))
        taken = jax.nn.one_hot(action, self.num_actions, dtype=features.dtype)
        return jnp.sum(self._of_all(params, features) * taken[None, :, None], axis=-1)

    def expected(
        self,
        key: Key,
        params: Params,
        features: jax.Array,
        distribution: Distribution,
    ) -> jax.Array:
        """Returns E_{a ~ π_g} Q(y, a, g), of every discount's actor under its discount.

        The sum for a `Categorical`; otherwise of one sample, differentiable in π.

        Args:
          key: consumed.
          params: `[C, ...]`.
          features: `[L, H]`.
          distribution: `[G, L]`; a `Categorical`, or one with a method
            `sample_and_log_prob`.

        Returns:
          `[C, L, G]`.
        """
        if isinstance(distribution, Categorical):
            probability = jnp.swapaxes(jax.nn.softmax(distribution.logits), 0, 1)
            return jnp.sum(self._of_all(params, features) * probability[None], axis=-1)
        action, _ = distribution.sample_and_log_prob(key)  # pyright: ignore

        def one(action):
            return self._apply(params, join(features, action))

        every = jax.vmap(one)(action)  # [G, C, L, G]
        return jnp.moveaxis(jnp.diagonal(every, axis1=0, axis2=3), -1, 2)

    def _of_all(self, params, features):
        """Returns Q of every action, `[C, L, G, A]`."""
        q = self._apply(params, features)
        return q.reshape(*q.shape[:-1], self.num_discounts, self.num_actions)

    def _apply(self, params, x):
        return jax.vmap(self.network.apply, (0, None))(params, x)


def trial_targets(
    reward: jax.Array, value: jax.Array, last: jax.Array, discounts: jax.Array
) -> jax.Array:
    """Computes r_t + γ_g V_g(y_{t+1}), through the episode ends of one trial.

    Args:
      reward: `[L]`.
      value: `[L, G]` V_g(y_t).
      last: `[L]` bool, the trial's last step, after which nothing is worth anything.
      discounts: `[G]`.

    Returns:
      `[L, G]`.
    """
    following = jnp.append(value[1:], jnp.zeros_like(value[:1]), axis=0)
    return td_target(
        reward[:, None], last[:, None], following, discount=discounts[None]
    )


def is_better(q: jax.Array, value: jax.Array) -> jax.Array:
    """Tells which actions to imitate: f = 1[mean_i Q_i(y, a) > mean_i V_i(y)].

    Args:
      q: `[C, ...]` of the actions.
      value: `[C, ...]`, E_{a ~ π} Q_i.

    Returns:
      `[...]` of zeros and ones; a constant.
    """
    advantage = jnp.mean(jax.lax.stop_gradient(q - value), axis=0)
    return (advantage > 0).astype(advantage.dtype)

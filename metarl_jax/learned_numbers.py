"""Numbers of a hand-made rule that are learned, constants or made of recent rewards.

A fraction is moved by its logit, another number by its logarithm, so that none leaves
its range.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from metarl_jax.actor_critic import Hyperparameters
from metarl_jax.policies.mlp import MLP
from metarl_jax.types import Key
from metarl_jax.validation import check_choice, check_sizes

Name = Literal["learning_rate", "discount", "gae_lambda", "entropy_coeff"]
NAMES = ("learning_rate", "discount", "gae_lambda", "entropy_coeff")
FRACTIONS = ("discount", "gae_lambda")
NUM_RECENT = 10


def learned_numbers(
    first: Hyperparameters,
    learned: Sequence[Name],
    reactive_sizes: Sequence[int] | None = None,
) -> tuple[Callable[[Key], Any], Callable[[Any, jax.Array], Hyperparameters]]:
    """Makes numbers that begin as the first.

    Args:
      first: what they begin as; what is not learned stays so.
      learned: names of what is.
      reactive_sizes: hidden sizes of a network of `[10]` recent mean rewards, which is
        added to the constants and begins as zero; None: there is none.

    Returns:
      `(key) -> η` and `(η, recent [10]) -> Hyperparameters`.

    Raises:
      ValueError: if the names are none or not of what can be learned, one begins where
        its logit or logarithm is infinite, or a size is below 1.
    """
    names = _checked(learned, first)
    network = None
    if reactive_sizes is not None:
        check_sizes(reactive_sizes=reactive_sizes)
        network = MLP(len(names), tuple(reactive_sizes), activation=jnp.tanh)

    def init(key):
        offsets = {name: jnp.zeros(()) for name in names}
        if network is None:
            return {"offsets": offsets, "network": ()}
        params: Any = network.init(key, jnp.zeros(NUM_RECENT))
        last = optax.tree.zeros_like(params["params"]["output"])
        params = {"params": {**params["params"], "output": last}}
        return {"offsets": offsets, "network": params}

    def numbers(rule, recent):
        by_rewards: Any = jnp.zeros(len(names))
        if network is not None:
            by_rewards = network.apply(rule["network"], recent)
        return first._replace(
            **{
                name: _moved(
                    name, getattr(first, name), rule["offsets"][name] + by_rewards[i]
                )
                for i, name in enumerate(names)
            }
        )

    return init, numbers


def _moved(name: str, first: Any, offset: jax.Array) -> jax.Array:
    if name in FRACTIONS:
        return jax.nn.sigmoid(jnp.log(first) - jnp.log1p(-first) + offset)
    return first * jnp.exp(offset)


def _checked(learned: Any, first: Hyperparameters) -> tuple[Name, ...]:
    if isinstance(learned, str) or not isinstance(learned, Sequence) or not learned:
        raise ValueError(f"learned must be some of {NAMES}; got {learned!r}")
    for name in learned:
        check_choice(NAMES, learned=name)
        value = getattr(first, name)
        if isinstance(value, Tracer):
            continue
        if not value > 0 or (name in FRACTIONS and not value < 1):
            room = "above 0 and below 1" if name in FRACTIONS else "above 0"
            raise ValueError(
                f"{name} must begin {room} where it is learned; got {value}"
            )
    return tuple(learned)

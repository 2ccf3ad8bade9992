"""A network that says how an agent is to change, from what it saw and did.

It is run backwards over a piece of an agent's life, so that what it says of a step can
depend on what came after it, as a return does (Oh et al. 2020, arXiv 2007.08794).
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from metarl_jax.linear_algebra import orthogonal
from metarl_jax.validation import check_flags, check_positive, check_sizes


class Seen(NamedTuple):
    """What the rule sees of one stream's steps; of the agent only what it said."""

    reward: jax.Array  # [T]
    terminated: jax.Array  # [T] bool
    ended: jax.Array  # [T] bool, terminated or cut by the time limit
    probability: jax.Array  # [T] π(a_t | o_t)
    prediction: jax.Array  # [T, M] y(o_t), probabilities
    next_prediction: jax.Array  # [T, M] y(o_{t+1})
    age: jax.Array  # [2] the part of the life that is over, and log its length


class Aims(NamedTuple):
    """What the rule wants of the agent."""

    policy: jax.Array  # [T] π̂, how much likelier the action is to be
    prediction: jax.Array  # [T, M] ŷ, logits of what y is to be


class UpdateRule(nn.Module):
    """The update network of LPG: an LSTM backwards over a stream.

    x_t = (r_t, d_t, π(a_t | o_t), φ(y_t), φ(y_{t+1})), h_t = LSTM(h_{t+1}, x_t), and
    π̂_t and ŷ_t are affine in h_t. The state is zero after the last step and wherever an
    episode ended, so that nothing of one reaches another. φ is a small network of the
    prediction, the same for both. Neither observations nor actions are seen: a rule of
    one world can be used in another.

    Attributes:
      num_predictions: M.
      size: of the LSTM.
      embedding_sizes: widths of φ, the last of which is what the LSTM sees of y.
      temporal: whether the age is seen (TA-LPG; Jackson et al. 2024, arXiv 2402.05828).
    """

    num_predictions: int = 8
    size: int = 64
    embedding_sizes: tuple[int, ...] = (16, 1)
    temporal: bool = False

    def __post_init__(self):
        """Checks the attributes."""
        check_positive(num_predictions=self.num_predictions, size=self.size)
        check_sizes(embedding_sizes=self.embedding_sizes)
        check_flags(temporal=self.temporal)
        super().__post_init__()

    @nn.compact
    def __call__(self, seen: Seen) -> Aims:
        """Returns what is aimed at in every step of one stream."""
        layers = [
            nn.Dense(size, name=f"embedding_{i}")
            for i, size in enumerate(self.embedding_sizes)
        ]

        def embed(y):
            for layer in layers[:-1]:
                y = nn.relu(layer(y))
            return layers[-1](y)

        parts = [
            seen.reward[:, None],
            seen.terminated[:, None].astype(seen.reward.dtype),
            seen.probability[:, None],
            embed(seen.prediction),
            embed(seen.next_prediction),
        ]
        if self.temporal:
            age = seen.age.astype(seen.reward.dtype)
            parts.append(jnp.broadcast_to(age, (len(seen.reward), 2)))
        # All steps at once, outside of the loop.
        inputs = nn.Dense(4 * self.size, name="input")(jnp.concatenate(parts, axis=-1))
        shape = (self.size, 4 * self.size)
        # Of the type of the other layers' parameters.
        kernel = self.param("recurrent", orthogonal, shape, jnp.float32)

        def step(carry, x):
            x, ended = x
            cell, hidden = (jnp.where(ended, 0.0, part) for part in carry)
            forget, enter, leave, new = jnp.split(x + hidden @ kernel, 4)
            cell = nn.sigmoid(forget + 1.0) * cell + nn.sigmoid(enter) * jnp.tanh(new)
            hidden = nn.sigmoid(leave) * jnp.tanh(cell)
            return (cell, hidden), hidden

        zeros = jnp.zeros(self.size, inputs.dtype)
        _, hidden = jax.lax.scan(
            step, (zeros, zeros), (inputs, seen.ended), reverse=True
        )
        return Aims(
            nn.Dense(1, name="policy")(hidden)[:, 0],
            nn.Dense(self.num_predictions, name="prediction")(hidden),
        )

"""A causal transformer: a cache when acting, parallel attention when training."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from metarl_jax.validation import check_positive


class Cache(NamedTuple):
    """The last C steps. Slot i holds the step whose number is i modulo C."""

    key: tuple[jax.Array, ...]  # of each layer, [heads, C, D]
    value: tuple[jax.Array, ...]  # of each layer, [heads, C, D]
    position: (
        jax.Array
    )  # [C] int32, the number of the step in a slot, or far in the past
    time: jax.Array  # [] int32, steps seen


class Transformer(nn.Module):
    """Layers of attention over the last C steps, itself among them.

    Normalisation before each sublayer (Vaswani et al. 2017, arXiv 1706.03762; Xiong et
    al. 2020, arXiv 2002.04745), and rotary positions (Su et al. 2021, arXiv
    2104.09864): only distances between steps count, so a trial may be of any length.

    Attributes:
      size: of the residual stream and the output.
      num_layers: layers.
      num_heads: heads of a layer; must divide `size`, and by an even head size.
      context: C, how many steps a layer looks back.
    """

    size: int = 64
    num_layers: int = 2
    num_heads: int = 4
    context: int = 64

    def __post_init__(self):
        """Checks the attributes."""
        check_positive(
            size=self.size,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            context=self.context,
        )

        if self.size % (2 * self.num_heads):
            raise ValueError(
                "size must be a multiple of 2 * num_heads, because rotary positions "
                f"turn pairs; got {self.size} and {self.num_heads} heads"
            )
        super().__post_init__()

    def setup(self):
        """Declares the parameters."""
        self.input = nn.Dense(self.size)
        self.blocks = [
            _Block(self.size, self.num_heads) for _ in range(self.num_layers)
        ]
        self.norm = nn.LayerNorm()

    def initial_state(self):
        """Returns an empty cache."""
        return self._empty(self.context)

    def start_of_trial(self):
        """Returns a cache without slots, from which `unroll` attends to no empty ones.

        It is what `initial_state` is to `unroll`; a step has nowhere to go in it.
        """
        return self._empty(0)

    def _empty(self, num_slots):
        head_size = self.size // self.num_heads
        empty = (jnp.zeros((self.num_heads, num_slots, head_size)),) * self.num_layers
        position = jnp.full(num_slots, -self.context, jnp.int32)
        return Cache(empty, empty, position, jnp.zeros((), jnp.int32))

    def __call__(self, state, x):
        """Takes one step; its keys and values replace the oldest ones."""
        slot = state.time % self.context
        position = state.position.at[slot].set(state.time)
        visible = (state.time - position < self.context)[None]
        x, keys, values = self.input(x[None]), [], []
        for block, old_key, old_value in zip(
            self.blocks, state.key, state.value, strict=True
        ):

            def written(key, value, old_key=old_key, old_value=old_value):
                # In their slot, not beside the cache: that would copy it.
                return tuple(
                    jax.lax.dynamic_update_slice_in_dim(old, new, slot, axis=1)
                    for old, new in ((old_key, key), (old_value, value))
                )

            x, key, value = block(x, state.time[None], written, visible)
            keys.append(key)
            values.append(value)
        state = Cache(tuple(keys), tuple(values), position, state.time + 1)
        return state, self.norm(x)[0]

    def hold(self, goes_on, new, old):
        """Returns the new state where the trial goes on, what is as good as the old.

        What the step that does not count has written stands in the slot that the next
        one takes, and is seen by nobody: the cache need not be copied.
        """
        position, time = (
            jnp.where(goes_on, x, y)
            for x, y in ((new.position, old.position), (new.time, old.time))
        )
        return new._replace(position=position, time=time)

    def unroll(self, state, xs):
        """Takes a stream of steps."""
        position = state.time + jnp.arange(xs.shape[0])
        steps = jnp.concatenate([state.position, position])
        distance = position[:, None] - steps[None]
        visible = (distance >= 0) & (distance < self.context)
        x = self.input(xs)
        for block, *old in zip(self.blocks, state.key, state.value, strict=True):

            def beside(*new, old=old):
                pairs = zip(old, new, strict=True)
                return [jnp.concatenate(pair, axis=1) for pair in pairs]

            x, _, _ = block(x, position, beside, visible)
        return self.norm(x)


class _Block(nn.Module):
    size: int
    num_heads: int

    @nn.compact
    def __call__(self, x, position, remembered, visible):
        """Returns the steps `[L, size]` and all keys and values, as `remembered` says.

        Args:
          x: `[L, size]`.
          position: `[L]`.
          remembered: `(key, value) -> (keys [heads, K, D], values)`: what the steps'
            own are put among.
          visible: `[L, K]`.
        """
        head_size = self.size // self.num_heads
        normalised = nn.LayerNorm()(x)
        projected = nn.DenseGeneral((self.num_heads, 3 * head_size), name="project")(
            normalised
        )
        # Heads first: products of many matrices are fastest where they lie apart.
        query, key, value = jnp.split(jnp.swapaxes(projected, 0, 1), 3, axis=-1)
        query, key = _rotate(query, position), _rotate(key, position)
        all_keys, all_values = remembered(key, value)
        scores = (query * head_size**-0.5) @ jnp.swapaxes(all_keys, 1, 2)
        scores = jnp.where(visible[None], scores, -jnp.inf)
        largest = jnp.max(scores, axis=-1, keepdims=True)
        # Divided by their sum after they were multiplied with, which is less to divide.
        weights = jnp.exp(scores - jax.lax.stop_gradient(largest))
        total = jnp.sum(weights, axis=-1, keepdims=True)
        # Kept only where somebody asks for intermediates, to see what is looked at.
        self.sow("intermediates", "attention", weights / total)
        y = jnp.swapaxes(weights @ all_values / total, 0, 1)
        x = x + nn.DenseGeneral(self.size, axis=(-2, -1), name="merge")(y)
        y = nn.gelu(nn.Dense(4 * self.size, name="expand")(nn.LayerNorm()(x)))
        x = x + nn.Dense(self.size, name="contract")(y)
        return x, all_keys, all_values


def _rotate(x, position):
    """Turns the pairs (x_i, x_{i + D/2}) by angles that grow with the position."""
    half = x.shape[-1] // 2
    frequency = 10_000.0 ** (-jnp.arange(half, dtype=x.dtype) / half)
    angle = position.astype(x.dtype)[None, :, None] * frequency[None, None]
    angle = jnp.concatenate([angle, angle], axis=-1)
    # A quarter turn, (x, y) to (-y, x): cheaper as a product than cut and joined.
    quarter = jnp.eye(2 * half, k=half, dtype=x.dtype)
    quarter -= jnp.eye(2 * half, k=-half, dtype=x.dtype)
    return x * jnp.cos(angle) + (x @ quarter) * jnp.sin(angle)

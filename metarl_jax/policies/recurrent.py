"""Gated recurrent cores: what a `MemoryPolicy` remembers with."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from metarl_jax.linear_algebra import orthogonal
from metarl_jax.validation import check_positive


class GRU(nn.Module):
    """A gated recurrent unit (Cho et al. 2014, arXiv 1406.1078).

    r, z = σ(W x + U h + b),  n = tanh(W_n x + b_n + r (U_n h + c)),
    h' = (1 - z) n + z h: the reset gate after the product, so that one matrix product
    with the state serves all gates.

    Attributes:
      size: of the state and the output.
    """

    size: int = 64

    def __post_init__(self):
        """Checks the attributes."""
        check_positive(size=self.size)
        super().__post_init__()

    @nn.compact
    def _update(self, input_size):
        w, b, u = _gates(self, 3, input_size, self.size)
        c = self.param("recurrent_bias", nn.initializers.zeros, (self.size,))

        def update(state, x):
            from_input = jnp.split(x @ w + b, 3)
            from_state = jnp.split(state @ u, 3)
            state = _gru(
                from_input[0] + from_state[0],
                from_input[1] + from_state[1],
                from_input[2],
                from_state[2] + c,
                state,
            )
            return state, state

        return update

    def initial_state(self):
        """Returns zeros."""
        return jnp.zeros(self.size)

    def __call__(self, state, x):
        """Takes one step."""
        return self._update(x.shape[-1])(state, x)

    def unroll(self, state, xs):
        """Takes a stream of steps."""
        return jax.lax.scan(self._update(xs.shape[-1]), state, xs)[1]


class LSTM(nn.Module):
    """A long short-term memory (Hochreiter & Schmidhuber 1997).

    i, f, o = σ(W x + U h + b),  g = tanh(W_g x + U_g h + b_g),
    c' = f c + i g,  h' = o tanh(c'), with b_f = 1 at initialisation (Gers et al. 2000),
    so that what is stored is at first kept.

    Attributes:
      size: of the cell, the hidden state and the output.
    """

    size: int = 64

    def __post_init__(self):
        """Checks the attributes."""
        check_positive(size=self.size)
        super().__post_init__()

    @nn.compact
    def _update(self, input_size):
        forget = jnp.arange(4 * self.size) // self.size == 1
        w, b, u = _gates(self, 4, input_size, self.size, bias=jnp.where(forget, 1.0, 0))

        def update(state, x):
            cell, hidden = state
            gates = jnp.split(x @ w + b + hidden @ u, 4)
            cell, hidden = _lstm(*gates, cell)
            return (cell, hidden), hidden

        return update

    def initial_state(self):
        """Returns zeros: the cell and the hidden state."""
        return jnp.zeros(self.size), jnp.zeros(self.size)

    def __call__(self, state, x):
        """Takes one step."""
        return self._update(x.shape[-1])(state, x)

    def unroll(self, state, xs):
        """Takes a stream of steps."""
        return jax.lax.scan(self._update(xs.shape[-1]), state, xs)[1]


# Left to itself, the derivative of a step remembers every factor that it meets. By
# these rules it remembers one product for each input: a third less memory, less time.
@jax.custom_jvp
def _gru(reset, keep, new, recurrent, state):
    """Returns h' of what enters the gates: the new state is of new + r · recurrent."""
    return _gru_step(reset, keep, new, recurrent, state)[0]


@_gru.defjvp
def _(primals, tangents):
    *_, recurrent, state = primals
    after, reset, keep, new = _gru_step(*primals)
    by_new = (1.0 - keep) * (1.0 - new**2)
    by_recurrent = by_new * reset
    slopes = (
        by_recurrent * (1.0 - reset) * recurrent,
        (state - new) * keep * (1.0 - keep),
        by_new,
        by_recurrent,
        keep,
    )
    return after, _along(slopes, tangents)


def _gru_step(reset, keep, new, recurrent, state):
    reset, keep = nn.sigmoid(reset), nn.sigmoid(keep)
    new = jnp.tanh(new + reset * recurrent)
    return (1.0 - keep) * new + keep * state, reset, keep, new


@jax.custom_jvp
def _lstm(write, keep, read, new, cell):
    """Returns c' and h' of what enters the gates."""
    cell, *_, read, out = _lstm_step(write, keep, read, new, cell)
    return cell, read * out


@_lstm.defjvp
def _(primals, tangents):
    after, write, keep, new, read, out = _lstm_step(*primals)
    before = primals[-1]
    d_write, d_keep, d_read, d_new, d_cell = tangents
    slopes = (
        new * write * (1.0 - write),
        before * keep * (1.0 - keep),
        write * (1.0 - new**2),
        keep,
    )
    d_after = _along(slopes, (d_write, d_keep, d_new, d_cell))
    slopes = (out * read * (1.0 - read), read * (1.0 - out**2))
    return (after, read * out), (d_after, _along(slopes, (d_read, d_after)))


def _lstm_step(write, keep, read, new, cell):
    write, keep, read = nn.sigmoid(write), nn.sigmoid(keep), nn.sigmoid(read)
    new = jnp.tanh(new)
    cell = keep * cell + write * new
    return cell, write, keep, new, read, jnp.tanh(cell)


def _along(slopes, tangents) -> Any:
    return sum(x * y for x, y in zip(slopes, tangents, strict=True))


def _gates(module, num_gates, input_size, size, bias: float | jax.Array = 0.0):
    """Declares W, b and U of all gates side by side, each gate's U orthogonal.

    W x stays inside the scan over time: making it for all steps beforehand is slower on
    a CPU, where reading it back costs more than the product.
    """
    xavier = nn.initializers.xavier_uniform()

    def each(init):
        def all_gates(key, shape):
            keys = jax.random.split(key, num_gates)
            return jnp.concatenate([init(key, shape) for key in keys], axis=-1)

        return all_gates

    def constant(key):
        del key
        return jnp.full(num_gates * size, bias, jnp.float32)

    return (
        module.param("input_kernel", each(xavier), (input_size, size)),
        module.param("bias", constant),
        module.param("recurrent_kernel", each(orthogonal), (size, size)),
    )

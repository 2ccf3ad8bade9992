"""Gated recurrent cores: what a `MemoryPolicy` remembers with."""

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
            reset = nn.sigmoid(from_input[0] + from_state[0])
            keep = nn.sigmoid(from_input[1] + from_state[1])
            new = jnp.tanh(from_input[2] + reset * (from_state[2] + c))
            state = (1.0 - keep) * new + keep * state
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
            write, keep, read = (nn.sigmoid(gate) for gate in gates[:3])
            cell = keep * cell + write * jnp.tanh(gates[3])
            hidden = read * jnp.tanh(cell)
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

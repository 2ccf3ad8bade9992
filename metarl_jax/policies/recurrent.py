"""Gated recurrent cores: what a `MemoryPolicy` remembers with."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class GRU(nn.Module):
    """A gated recurrent unit (Cho et al. 2014, arXiv 1406.1078).

    r, z = σ(W x + U h + b),  n = tanh(W_n x + b_n + r (U_n h + c)),
    h' = (1 - z) n + z h: the reset gate after the product, so that one matrix product
    with the state serves all gates. Those with the inputs are made for a whole stream
    at once.

    Attributes:
      size: of the state and the output.
    """

    size: int = 64

    def setup(self):
        """Declares the parameters."""
        self.input = nn.Dense(3 * self.size)
        self.kernel = self.param("kernel", _orthogonal_gates(3), (self.size,) * 2)
        self.bias = self.param("bias", nn.initializers.zeros, (self.size,))

    def initial_state(self):
        """Returns zeros."""
        return jnp.zeros(self.size)

    def __call__(self, state, x):
        """Takes one step."""
        state = self._update(state, self.input(x))
        return state, state

    def unroll(self, state, xs):
        """Takes a stream of steps."""

        def step(state, projected):
            state = self._update(state, projected)
            return state, state

        return jax.lax.scan(step, state, self.input(xs))[1]

    def _update(self, state, projected):
        from_input = jnp.split(projected, 3, axis=-1)
        from_state = jnp.split(state @ self.kernel, 3, axis=-1)
        reset, keep = (
            nn.sigmoid(x + h)
            for x, h in zip(from_input[:2], from_state[:2], strict=True)
        )
        new = jnp.tanh(from_input[2] + reset * (from_state[2] + self.bias))
        return (1.0 - keep) * new + keep * state


class LSTM(nn.Module):
    """A long short-term memory (Hochreiter & Schmidhuber 1997).

    i, f, o = σ(W x + U h + b),  g = tanh(W_g x + U_g h + b_g),
    c' = f c + i g,  h' = o tanh(c'), with 1 added to b_f at initialisation (Gers et al.
    2000), so that what is stored is at first kept.

    Attributes:
      size: of the cell, the hidden state and the output.
    """

    size: int = 64

    def setup(self):
        """Declares the parameters."""
        self.input = nn.Dense(4 * self.size, bias_init=_forget_bias(self.size))
        self.kernel = self.param("kernel", _orthogonal_gates(4), (self.size,) * 2)

    def initial_state(self):
        """Returns zeros: the cell and the hidden state."""
        return jnp.zeros(self.size), jnp.zeros(self.size)

    def __call__(self, state, x):
        """Takes one step."""
        state = self._update(state, self.input(x))
        return state, state[1]

    def unroll(self, state, xs):
        """Takes a stream of steps."""

        def step(state, projected):
            state = self._update(state, projected)
            return state, state[1]

        return jax.lax.scan(step, state, self.input(xs))[1]

    def _update(self, state, projected):
        cell, hidden = state
        gates = jnp.split(projected + hidden @ self.kernel, 4, axis=-1)
        write, keep, read = (nn.sigmoid(gate) for gate in gates[:3])
        cell = keep * cell + write * jnp.tanh(gates[3])
        return cell, read * jnp.tanh(cell)


def _orthogonal_gates(num_gates):
    """Each gate's matrix orthogonal of its own; the shape is that of one."""

    def init(key, shape):
        keys = jax.random.split(key, num_gates)
        orthogonal = nn.initializers.orthogonal()
        return jnp.concatenate([orthogonal(key, shape) for key in keys], axis=-1)

    return init


def _forget_bias(size):
    def init(key, shape, dtype=jnp.float32):
        del key
        return jnp.zeros(shape, dtype).at[size : 2 * size].set(1.0)

    return init

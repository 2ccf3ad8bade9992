"""A linear recurrence, stepped when acting and scanned in parallel when training."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from metarl_jax.validation import check_fraction, check_positive


class LinearRecurrent(nn.Module):
    """Layers of linear recurrent units with gates between them.

    h_t = λ ⊙ h_{t-1} + γ ⊙ B u_t,  y_t = Re(C h_t) + D ⊙ u_t, with complex λ inside the
    unit disc and γ = √(1 - |λ|²), on the normalised input u; then a gated linear unit
    and a residual connection (Orvieto et al. 2023, arXiv 2303.06349). Because the
    recurrence is linear and associative, a stream of L steps takes log L parallel ones.

    Attributes:
      size: of a layer's input and output.
      state_size: complex numbers in a layer's state.
      num_layers: layers.
      min_radius: at initialisation λ is uniform over the ring from this radius
      max_radius: to this one.
    """

    size: int = 64
    state_size: int = 64
    num_layers: int = 2
    min_radius: float = 0.5
    max_radius: float = 0.99

    def __post_init__(self):
        """Checks the attributes."""
        check_positive(
            size=self.size, state_size=self.state_size, num_layers=self.num_layers
        )
        check_fraction(min_radius=self.min_radius, max_radius=self.max_radius)
        if not self.min_radius < self.max_radius < 1:
            raise ValueError(
                "min_radius must be below max_radius, and that below 1; got "
                f"{self.min_radius} and {self.max_radius}"
            )
        super().__post_init__()

    def setup(self):
        """Declares the parameters."""
        self.input = nn.Dense(self.size)
        self.layers = [
            _Layer(self.size, self.state_size, self.min_radius, self.max_radius)
            for _ in range(self.num_layers)
        ]

    def initial_state(self):
        """Returns zeros, `[layers, state_size]` complex."""
        return jnp.zeros((self.num_layers, self.state_size), complex)

    def __call__(self, state, x):
        """Takes one step."""
        x = self.input(x)
        new_state = []
        for layer, h in zip(self.layers, state, strict=True):
            h, x = layer(h, x)
            new_state.append(h)
        return jnp.stack(new_state), x

    def unroll(self, state, xs):
        """Takes a stream of steps."""
        xs = self.input(xs)
        for layer, h in zip(self.layers, state, strict=True):
            xs = layer.unroll(h, xs)
        return xs


class _Layer(nn.Module):
    size: int
    state_size: int
    min_radius: float
    max_radius: float

    def setup(self):
        ring = (self.min_radius**2, self.max_radius**2)

        def log_decay(key, shape):
            squared = jax.random.uniform(key, shape, minval=ring[0], maxval=ring[1])
            return jnp.log(-0.5 * jnp.log(squared))

        def log_phase(key, shape):
            # Uniform over the half circle: the other half is its conjugate.
            phase = jax.random.uniform(key, shape, minval=1e-3, maxval=jnp.pi)
            return jnp.log(phase)

        lecun = nn.initializers.lecun_normal()
        n, d = self.state_size, self.size
        # λ = exp(-exp(ν) + i exp(θ)) stays inside the unit disc whatever ν and θ are.
        self.log_decay = self.param("log_decay", log_decay, (n,))
        self.log_phase = self.param("log_phase", log_phase, (n,))
        self.input_matrix = self.param("input_matrix", lecun, (d, 2 * n))
        self.output_matrix = self.param("output_matrix", lecun, (2 * n, d))
        self.skip = self.param("skip", nn.initializers.ones, (d,))
        self.norm = nn.LayerNorm()
        self.gate = nn.Dense(2 * d)

    def __call__(self, state, x):
        decay, driven, u = self._drive(x)
        state = decay * state + driven
        return state, self._read(state, u, x)

    def unroll(self, state, xs):
        decay, driven, u = self._drive(xs)
        driven = driven.at[0].add(decay * state)

        def compose(first, second):
            """The map h -> a h + b of one stretch after that of another."""
            (a, b), (c, d) = first, second
            return a * c, c * b + d

        decay = jnp.broadcast_to(decay, driven.shape)
        states = jax.lax.associative_scan(compose, (decay, driven))[1]
        return self._read(states, u, xs)

    def _drive(self, x):
        """Returns λ, γ B u and the normalised input u."""
        magnitude = jnp.exp(-jnp.exp(self.log_decay))
        decay = jax.lax.complex(
            magnitude * jnp.cos(jnp.exp(self.log_phase)),
            magnitude * jnp.sin(jnp.exp(self.log_phase)),
        )
        u = self.norm(x)
        driven = u @ self.input_matrix
        scale = jnp.broadcast_to(
            jnp.tile(jnp.sqrt(1.0 - magnitude**2), 2), driven.shape
        )
        return decay, jax.lax.complex(*jnp.split(scale * driven, 2, axis=-1)), u

    def _read(self, state, u, x):
        parts = jnp.concatenate([state.real, state.imag], axis=-1)
        skip = jnp.broadcast_to(self.skip, u.shape)
        y = nn.gelu(parts @ self.output_matrix + skip * u)
        value, gate = jnp.split(self.gate(y), 2, axis=-1)
        return x + value * nn.sigmoid(gate)

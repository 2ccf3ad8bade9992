"""JAX's own rules of promotion, for code that was written for them."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax


@contextmanager
def standard_promotion() -> Iterator[None]:
    """Lets ranks and types be promoted in what is traced within.

    Environments and optimisers are other people's: under `jax_numpy_dtype_promotion`
    "strict" or `jax_numpy_rank_promotion` "raise", which users set to check their own
    code, gymnax's CartPole and optax's Adam cannot be traced.
    """
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield

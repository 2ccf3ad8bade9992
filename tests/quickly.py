"""Programs traced and written down in less time, once this is imported."""

import functools
import gc

from jax._src.interpreters import mlir
from jax.interpreters.mlir import ir

# Tracing makes millions of objects that live on, and looks through them in vain.
gc.set_threshold(200_000, 20, 20)

# What a program is written down in takes longer to make than most take to write.
make_apart, made_once = mlir.make_ir_context, functools.cache(mlir.make_ir_context)


def make_ir_context():
    """Returns one for all, but for what is written down while something else is."""
    try:
        ir.InsertionPoint.current  # noqa: B018
    except ValueError:
        return made_once()
    return make_apart()


mlir.make_ir_context = make_ir_context

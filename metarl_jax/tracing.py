"""What can be told of a function by its traced program, without running it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var
from jax.interpreters import partial_eval

# An output of one of these is a new number, if what it is made of moves.
_MIXES = {"add", "sub", "mul", "div", "rem", "pow", "atan2", "dot_general"}
# What is known of a variable, in rising order: it does not depend on what moves; it
# does; it may be the very argument.
_FIXED, _MOVING, _WHOLE = range(3)


def depends(jaxpr: Jaxpr, output: int, argument: int) -> bool:
    """Tells whether an output of a traced function may depend on an argument."""
    wanted = [i == output for i in range(len(jaxpr.outvars))]
    return partial_eval.dce_jaxpr(jaxpr, wanted)[1][argument]


def written_numbers(jaxpr: ClosedJaxpr | Jaxpr) -> list[Any]:
    """Lists the numbers that stand in a traced function itself, in their order."""
    numbers = list(jaxpr.consts) if isinstance(jaxpr, ClosedJaxpr) else []
    equations, outputs = _open(jaxpr).eqns, _open(jaxpr).outvars
    variables = [x for one in equations for x in one.invars]
    numbers += [x.val for x in (*variables, *outputs) if isinstance(x, Literal)]
    known = [x for x in numbers if _is_number(x)]
    inner = [written_numbers(called) for one in equations for called in _called(one)]
    return sum(inner, known)


def count_named(jaxpr: ClosedJaxpr | Jaxpr, name: str) -> int | None:
    """Counts the numbers that a traced function gives a name when it runs.

    `jax.ad_checkpoint.checkpoint_name` names them; one in a loop counts as often as the
    loop runs, of a condition's branches the one with the most counts, and what a
    gradient computes again does not.

    Returns:
      The count; None where it stands in a loop that ends when it will.
    """
    total = 0
    for equation in _open(jaxpr).eqns:
        kind, params = equation.primitive.name, equation.params
        if kind == "name" and params["name"] == name:
            total += equation.invars[0].aval.size  # pyright: ignore
        if params.get("differentiated"):
            continue
        counts = [count_named(called, name) for called in _called(equation)]
        known = [count for count in counts if count is not None]
        if len(known) < len(counts) or (kind == "while" and any(known)):
            return None
        if kind == "cond":
            total += max(known)
        else:
            total += sum(known) * (params["length"] if kind == "scan" else 1)
    return total


def unequal_numbers(
    first: ClosedJaxpr | Jaxpr, second: ClosedJaxpr | Jaxpr
) -> tuple[Any, Any] | None:
    """Returns the first numbers in which two traces of one function differ, if any."""
    pairs = zip(written_numbers(first), written_numbers(second), strict=False)
    for one, other in pairs:
        if one is not other and not np.array_equal(one, other, equal_nan=True):
            return one, other
    return None


def may_keep(jaxpr: Jaxpr, output: int, argument: int, fixed: set[int]) -> bool:
    """Tells whether an output may be an argument as it was, and not a new number.

    A sum or a product of it with what depends on other arguments is taken for new,
    unless these are among the fixed ones, which may happen to change nothing.
    """
    marks = [
        _WHOLE if i == argument else _FIXED if i in fixed else _MOVING
        for i in range(len(jaxpr.invars))
    ]
    return _marks(jaxpr, marks)[output] == _WHOLE


def _marks(jaxpr: Jaxpr, arguments: list[int]) -> list[int]:
    """Marks the outputs by the marks of the arguments."""
    marks = dict(zip(jaxpr.invars, arguments, strict=True))

    def mark(x):
        return marks.get(x, _FIXED) if isinstance(x, Var) else _FIXED

    for equation in jaxpr.eqns:
        inputs = [mark(x) for x in equation.invars]
        outputs = [max(inputs, default=_FIXED)] * len(equation.outvars)
        if equation.primitive.name in _MIXES and min(inputs) > _FIXED:
            outputs = [_MOVING]
        elif equation.primitive.name in ("jit", "pjit"):
            outputs = _marks(_open(equation.params["jaxpr"]), inputs)
        marks.update(zip(equation.outvars, outputs, strict=True))
    return [mark(x) for x in jaxpr.outvars]


def _open(jaxpr: ClosedJaxpr | Jaxpr) -> Jaxpr:
    return jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr


def _is_number(x: Any) -> bool:
    """Tells arrays and scalars from what is traced itself and from random keys."""
    if isinstance(x, Tracer):
        return False
    return not (hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jax.dtypes.extended))


def _called(equation: JaxprEqn) -> list[ClosedJaxpr | Jaxpr]:
    """Returns the functions that an equation calls."""

    def is_function(x):
        return isinstance(x, ClosedJaxpr | Jaxpr)

    values = jax.tree.leaves(list(equation.params.values()), is_leaf=is_function)
    return [value for value in values if is_function(value)]

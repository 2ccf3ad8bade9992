"""Between what a policy draws and what an environment takes, shows and a network reads.

Spaces are gymnax's or gymnasium's. A policy draws the number of a `Discrete` action,
counted from 0, or real numbers for a `Box`; it reads one array of floats. `given` and
`encoder` say what that means in the environment's own terms.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium.spaces as gymnasium_spaces
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from metarl_jax.deferred import deferred

# Its renderers want them; loading these is half of what a start costs.
with deferred("seaborn", "matplotlib", "matplotlib.pyplot", "matplotlib.colors"):
    from gymnax.environments import spaces as gymnax_spaces

_DISCRETE = (gymnax_spaces.Discrete, gymnasium_spaces.Discrete)
_BOX = (gymnax_spaces.Box, gymnasium_spaces.Box)
_DICT = (gymnax_spaces.Dict, gymnasium_spaces.Dict)
_TUPLE = (gymnax_spaces.Tuple, gymnasium_spaces.Tuple)

# Beyond this a bound stands for none: the width of the space would not be finite.
_UNBOUNDED = 1e30


def num_choices(space: Any) -> int | None:
    """Returns n of a `Discrete` space; None for any other."""
    return int(space.n) if isinstance(space, _DISCRETE) else None


def is_known(space: Any) -> bool:
    """Tells whether a space is the same for every task, when one is traced."""
    numbers = jax.tree.leaves(list(vars(space).values()))
    return not any(isinstance(x, Tracer) for x in numbers)


def is_box(space: Any) -> bool:
    """Tells whether a space is a `Box`."""
    return isinstance(space, _BOX)


def given(space: Any, action: Any) -> Any:
    """Makes what a policy drew an action of the environment's.

    It is of the space's type. For a `Discrete` space the number counted from 0 becomes
    one counted from the space's `start`. For a `Box` the numbers are clipped to [low,
    high], rounded first where it holds integers; a side without a bound stays without.
    The bounds are those that the type can hold, rounded inwards. NaN stays NaN; where
    the space holds integers it becomes the lowest, and whoever asks has to look for NaN
    beforehand: `TaskDistribution.step` makes the reward NaN.

    Args:
      space: the action space; its bounds may be traced.
      action: as it was drawn.

    Returns:
      The action that the environment is given; of other spaces the very one.
    """
    if not isinstance(space, _DISCRETE + _BOX):
        return action
    dtype = jax.dtypes.canonicalize_dtype(space.dtype)
    action = jnp.asarray(action)
    if isinstance(space, _DISCRETE):
        start = getattr(space, "start", 0)
        return action.astype(dtype) + int(start)
    if jnp.issubdtype(dtype, jnp.floating):
        action = action.astype(dtype)
        return jnp.clip(action, *_bounds(space, dtype))
    # Clipped before the cast, which would wrap around or be undefined outside.
    low, high = _bounds(space, action.dtype)
    action = jnp.where(jnp.isnan(action), low, jnp.clip(jnp.round(action), low, high))
    return action.astype(dtype)


def _bounds(space: Any, dtype: Any) -> tuple[Any, Any]:
    """Returns the least and the greatest numbers of a type that lie within a `Box`."""

    def inwards(bound, limit):
        xp: Any = jnp if isinstance(bound, jax.Array) else np
        bound = bound if xp is jnp else np.asarray(bound, np.float64)
        for integer in (space.dtype, dtype):
            if jnp.issubdtype(integer, jnp.integer):
                bound = xp.clip(bound, jnp.iinfo(integer).min, jnp.iinfo(integer).max)
        with np.errstate(over="ignore"):
            near = bound.astype(dtype)
        if jnp.issubdtype(dtype, jnp.integer):
            return near, near
        outside = near < bound if limit > 0 else near > bound
        return near, xp.where(outside, xp.nextafter(near, near.dtype.type(limit)), near)

    near_low, low = inwards(space.low, np.inf)
    near_high, high = inwards(space.high, -np.inf)
    # Equal bounds may have no number of the type between them but the nearest.
    apart = low <= high
    xp: Any = jnp if isinstance(apart, jax.Array) else np
    return xp.where(apart, low, near_low), xp.where(apart, high, near_high)


def draw(key: jax.Array, space: Any) -> Any:
    """Draws at random what a policy may draw: uniformly, where a space is bounded.

    A `Box` is drawn from as gymnasium does it: from an exponential distribution where
    one side is unbounded, a normal one where both are. The numbers of an integer `Box`
    are real, and all integers that `given` makes of them equally likely.

    Args:
      key: consumed.
      space: the action space; its bounds may be traced.

    Returns:
      An action as a policy draws it.

    Raises:
      ValueError: if the space is of another kind.
    """
    n = num_choices(space)
    if n is not None:
        dtype = jax.dtypes.canonicalize_dtype(space.dtype)
        return jax.random.randint(key, (), 0, n, dtype)
    if not is_box(space):
        raise ValueError(f"actions must be of a Discrete or a Box space; got {space!r}")
    dtype = jax.dtypes.canonicalize_dtype(space.dtype)
    margin = 0.0
    if not jnp.issubdtype(dtype, jnp.floating):
        dtype, margin = jnp.float32, 0.5
    low, high = _bounds(space, dtype)
    low, high = jnp.asarray(low - margin, dtype), jnp.asarray(high + margin, dtype)
    below, above = low > -_UNBOUNDED, high < _UNBOUNDED
    shape = tuple(space.shape)
    uniform = jax.random.uniform(
        key,
        shape,
        dtype,
        jnp.where(below & above, low, 0),
        jnp.where(below & above, high, 1),
    )
    exponential = jax.random.exponential(key, shape, dtype)
    one_sided = jnp.where(below, low + exponential, high - exponential)
    unbounded = jnp.where(
        below | above, one_sided, jax.random.normal(key, shape, dtype)
    )
    return jnp.where(below & above, uniform, unbounded)


def encoder(space: Any, name: str = "the observation") -> Callable[[Any], jax.Array]:
    """Makes the function by which networks read the observations of a space.

    - A `Box` of floats stays as it is; one of `uint8` from 0 to 255, an image, is
      divided by 255; any other becomes floats.
    - `Discrete` becomes one-hot `[n]`, `MultiDiscrete` the one-hots of its parts side
      by side, `MultiBinary` zeros and ones. A choice out of its range becomes NaN.
    - The parts of a `Dict`, in the order of its sorted keys, and those of a `Tuple` are
      encoded, flattened and put side by side.

    Args:
      space: the observation space.
      name: of what is encoded, for error messages.

    Returns:
      `(obs) -> array of floats`, of one observation. It raises a `ValueError` where the
      observation is not of the space's structure, shape and kind.

    Raises:
      ValueError: if the space, or one in it, is of another kind.
    """
    # The functions keep numbers only, not the space, whose bounds may be traced.
    if isinstance(space, _DICT + _TUPLE):
        return _parts_encoder(space, name)
    form, numbers = _encoding(space, name)
    kind, shape = type(space).__name__, tuple(int(n) for n in space.shape or ())

    def encode(obs):
        leaf = jax.tree.structure(obs) == jax.tree.structure(0)
        x = jnp.asarray(obs) if leaf else obs
        if not leaf or x.shape != shape or not _is_of(x.dtype, numbers):
            got = f"{x.dtype}{list(x.shape)}" if leaf else jax.tree.structure(obs)
            raise ValueError(
                f"{name} must be of the space that is declared, a {kind} of {numbers} "
                f"of shape {shape}; got {got}"
            )
        return form(x)

    return encode


def _encoding(space: Any, name: str) -> tuple[Callable[[jax.Array], jax.Array], str]:
    """Returns how an array of a space becomes floats, and which numbers it holds."""
    if isinstance(space, _DISCRETE):
        n, start = int(space.n), int(getattr(space, "start", 0))
        return lambda x: _one_hot(x - start, n), "integers"
    if isinstance(space, gymnasium_spaces.MultiDiscrete):
        sizes, starts = np.ravel(space.nvec), np.ravel(space.start)

        def side_by_side(x):
            choices = zip(jnp.ravel(x), starts, sizes, strict=True)
            return jnp.concatenate(
                [_one_hot(c - int(s), int(n)) for c, s, n in choices]
            )

        return side_by_side, "integers"
    if isinstance(space, gymnasium_spaces.MultiBinary):
        return lambda x: x.astype(jnp.float32), "integers"
    if not is_box(space):
        raise ValueError(
            f"{name} must be of a Box, Discrete, MultiDiscrete, MultiBinary, Dict or "
            f"Tuple space to be encoded; got {space!r}"
        )
    if _is_image(space):
        return lambda x: x.astype(jnp.float32) / 255, "bytes"
    return (
        lambda x: x if _is_of(x.dtype, "floats") else x.astype(jnp.float32),
        "numbers",
    )


def _one_hot(choice: jax.Array, n: int) -> jax.Array:
    """Returns `[n]`; NaN where there is no such choice, which zeros would hide."""
    known = (choice >= 0) & (choice < n)
    return jnp.where(known, jax.nn.one_hot(choice, n, dtype=jnp.float32), jnp.nan)


def _is_of(dtype: Any, numbers: str) -> bool:
    """Tells whether a type is one of integers, floats, bytes or of any numbers."""
    kinds = {
        "integers": (jnp.integer, jnp.bool_),
        "floats": (jnp.floating,),
        "bytes": (jnp.uint8,),
        "numbers": (jnp.number, jnp.bool_),
    }
    return any(jnp.issubdtype(dtype, kind) for kind in kinds[numbers])


def _is_image(space: Any) -> bool:
    """Tells whether a `Box` is of all bytes; one of traced bounds is taken for such."""
    if np.dtype(space.dtype) != np.uint8:
        return False
    try:
        return bool(np.all(np.equal(space.low, 0) & np.equal(space.high, 255)))
    except jax.errors.TracerArrayConversionError:
        return True


def _parts_encoder(space: Any, name: str) -> Callable[[Any], jax.Array]:
    """Encodes a `Dict` or a `Tuple`."""
    by_name = isinstance(space, _DICT)
    keys = sorted(space.spaces) if by_name else range(len(space.spaces))
    encoders = {key: encoder(space.spaces[key], f"{name}[{key!r}]") for key in keys}
    if not encoders:
        raise ValueError(f"{name} must have a part to be encoded; got {space!r}")

    def encode(obs):
        parts = _parts(obs, by_name)
        if parts is None or set(parts) != set(encoders):
            got = jax.tree.structure(obs) if parts is None else list(parts)
            raise ValueError(
                f"{name} must have the parts {list(encoders)} that its space declares; "
                f"got {got}"
            )
        encoded = [jnp.ravel(one(parts[key])) for key, one in encoders.items()]
        return jnp.concatenate(encoded)

    return encode


def _parts(obs: Any, by_name: bool) -> dict | None:
    """Returns the parts of an observation by name or number; None if it has none."""
    if not by_name:
        return dict(enumerate(obs)) if isinstance(obs, tuple | list) else None
    if isinstance(obs, Mapping):
        return dict(obs)
    # A NamedTuple or a dataclass, which gymnax's own `Dict` takes too.
    if hasattr(obs, "_asdict"):
        return obs._asdict()
    return dict(vars(obs)) if dataclasses.is_dataclass(obs) else None


def join(obs: jax.Array, context: jax.Array) -> jax.Array:
    """Appends vectors to the last axis of observations, `[..., D + C]`.

    Images `[..., H, W, D]` get C further channels, each the same at every pixel.

    Args:
      obs: `[..., D]`.
      context: `[C]`, or with the first axes of the observations, `[N, C]` for one.
    """
    between = (1,) * (obs.ndim - context.ndim)
    context = context.reshape(*context.shape[:-1], *between, context.shape[-1])
    context = jnp.broadcast_to(context, (*obs.shape[:-1], context.shape[-1]))
    return jnp.concatenate([obs, context], axis=-1)


def to_numpy(space: gymnasium_spaces.Space, obs: Any) -> Any:
    """Makes an observation what gymnasium's space says: its parts and their types."""
    if isinstance(space, gymnasium_spaces.Dict):
        parts = _parts(obs, by_name=True) or {}
        return {key: to_numpy(part, parts[key]) for key, part in space.items()}
    if isinstance(space, gymnasium_spaces.Tuple):
        return tuple(to_numpy(*pair) for pair in zip(space, obs, strict=True))
    return np.asarray(obs).astype(space.dtype)[()]


def to_gymnasium(space: Any) -> gymnasium_spaces.Space:
    """Makes a gymnasium space of a gymnax one; gymnasium's stay as they are.

    Raises:
      ValueError: if the space, or one in it, has no equivalent.
    """
    if isinstance(space, gymnasium_spaces.Space):
        return space
    if isinstance(space, gymnax_spaces.Discrete):
        return gymnasium_spaces.Discrete(
            int(space.n), start=int(getattr(space, "start", 0))
        )
    if isinstance(space, gymnax_spaces.Box):
        shape = tuple(space.shape)
        dtype: Any = np.dtype(space.dtype)
        low, high = (
            np.broadcast_to(np.asarray(bound).astype(dtype), shape)
            for bound in (space.low, space.high)
        )
        return gymnasium_spaces.Box(low, high, shape, dtype)
    if isinstance(space, gymnax_spaces.Dict):
        return gymnasium_spaces.Dict(
            {key: to_gymnasium(part) for key, part in space.spaces.items()}
        )
    if isinstance(space, gymnax_spaces.Tuple):
        return gymnasium_spaces.Tuple([to_gymnasium(part) for part in space.spaces])
    raise ValueError(f"{space!r} has no equivalent among gymnasium's spaces")

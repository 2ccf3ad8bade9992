"""What a sweep varies, and the combinations that come of it."""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from metarl_jax.validation import MAX_INDEX, check_positive, shown

# Each is built and checked before the first is trained.
MAX_RUNS = 1000

Combination = dict[str, Any]  # value by option


class Range(NamedTuple):
    """Numbers that values are drawn from."""

    low: float
    high: float
    geometric: bool  # uniform in the logarithm
    whole: bool  # whole numbers, both ends included

    def __str__(self) -> str:
        """As it is typed."""
        kind = "loguniform" if self.geometric else "uniform"
        return f"{kind}:{self.low:g}:{self.high:g}"


Varied = Mapping[str, Sequence[Any] | Range]


def check_varied(vary: Varied) -> None:
    """Raises a `ValueError` unless every option has two values or a range, at least.

    One value is allowed beside another option that has several.
    """
    if not vary:
        raise ValueError("a sweep needs at least one option to vary; got none")
    for option, values in vary.items():
        name = shown_option(option)
        if isinstance(values, Range):
            if not 0 < values.high - values.low < np.inf:
                raise ValueError(
                    f"the range of {name} must go from a number to a greater one; got "
                    f"{values}"
                )
            if values.whole and max(-values.low, values.high) > MAX_INDEX:
                raise ValueError(
                    f"the range of {name} must end at {MAX_INDEX}, the largest index; "
                    f"got {values}"
                )
            if values.geometric and values.low <= 0:
                raise ValueError(
                    f"a loguniform range must begin above 0; got {values} for {name}"
                )
            continue
        if not values:
            raise ValueError(f"{name} needs at least one value to be varied; got none")
        for value in values:
            if list(values).count(value) > 1:
                raise ValueError(
                    f"the values of {name} must differ; got {shown_value(value)} twice"
                )


def combinations(
    vary: Varied, *, num_samples: int | None = None, seed: int = 0
) -> list[Combination]:
    """Combines the values of the options that are varied.

    Args:
      vary: by option, its values or the range they are drawn from.
      num_samples: how many different combinations to draw at random; None for all.
      seed: decides what is drawn.

    Raises:
      ValueError: if there are no values, two are equal, a range is empty or cannot be
        enumerated, or there are fewer than `num_samples` combinations.
    """
    check_varied(vary)
    if num_samples is None:
        for option, values in vary.items():
            if isinstance(values, Range):
                raise ValueError(
                    f"{shown_option(option)} is drawn from {values}, which needs "
                    "num_samples; got None"
                )
        check_num_runs(math.prod(len(values) for values in vary.values()))
        return [
            dict(zip(vary, values, strict=True))
            for values in itertools.product(*vary.values())
        ]
    check_positive(num_samples=num_samples)
    check_num_runs(num_samples)
    rng = np.random.default_rng(seed)
    drawn: dict[str, Combination] = {}
    for _ in range(100 * num_samples + 1000):
        combination = {option: _draw(values, rng) for option, values in vary.items()}
        drawn.setdefault(name_of(combination), combination)
        if len(drawn) == num_samples:
            return list(drawn.values())
    raise ValueError(
        f"num_samples must be at most the number of different combinations; got "
        f"{num_samples} and found {len(drawn)}"
    )


def check_num_runs(num_runs: int) -> None:
    """Raises a `ValueError` if a sweep would have too many runs."""
    if num_runs > MAX_RUNS:
        raise ValueError(
            f"a sweep must have at most {MAX_RUNS} runs; got {shown(num_runs)}"
        )


def _draw(values: Sequence[Any] | Range, rng: np.random.Generator) -> Any:
    if not isinstance(values, Range):
        return values[int(rng.integers(len(values)))]
    low, high = values.low, values.high
    if values.whole and not values.geometric:
        return int(rng.integers(int(low), int(high) + 1))
    if values.geometric:
        value = np.exp(rng.uniform(np.log(low), np.log(high)))
    else:
        value = rng.uniform(low, high)
    # Four digits can be read, and typed again.
    value = min(max(float(f"{value:.4g}"), low), high)
    return round(value) if values.whole else value


def name_of(combination: Combination) -> str:
    """Names a combination so that it reads well and can be a directory.

    Example:
      >>> name_of({"inner_lr": 0.1, "hidden_sizes": (64, 64)})
      'inner-lr=0.1,hidden-sizes=64x64'
    """
    name = ",".join(
        f"{shown_option(option)}={shown_value(value)}"
        for option, value in combination.items()
    )
    return re.sub(r"[^\w.,=+-]+", "-", name)


def shown_option(option: str) -> str:
    """Returns an option's name as it is typed."""
    return option.replace("_", "-")


def shown_value(value: Any) -> str:
    """Shows a value in few characters, different for different values."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return "x".join(map(shown_value, value)) or "none"
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return str(value)

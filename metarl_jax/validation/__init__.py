"""Checks made when something is built, before anything is compiled.

Each raises a `ValueError` of one sentence with the value and what is required of it.
"""

from metarl_jax.validation.optimizers import (
    check_optimizers,
    check_schedules,
    check_surrogates,
)
from metarl_jax.validation.policies import (
    check_agent,
    check_appended,
    check_batch,
    check_critic,
    check_decoder,
    check_methods,
    check_policy,
    check_remembers,
    check_tasks,
    has_memory,
    trajectory,
)
from metarl_jax.validation.scalars import (
    check_above_zero,
    check_at_least,
    check_choice,
    check_differentiation,
    check_divides,
    check_finite,
    check_flags,
    check_fraction,
    check_functions,
    check_key,
    check_not_negative,
    check_positive,
    check_seed,
    check_sizes,
    reason,
    shown,
)

__all__ = [
    "check_above_zero",
    "check_agent",
    "check_appended",
    "check_at_least",
    "check_batch",
    "check_choice",
    "check_critic",
    "check_decoder",
    "check_differentiation",
    "check_divides",
    "check_finite",
    "check_flags",
    "check_fraction",
    "check_functions",
    "check_key",
    "check_methods",
    "check_not_negative",
    "check_optimizers",
    "check_policy",
    "check_positive",
    "check_remembers",
    "check_schedules",
    "check_seed",
    "check_sizes",
    "check_surrogates",
    "check_tasks",
    "has_memory",
    "reason",
    "shown",
    "trajectory",
]

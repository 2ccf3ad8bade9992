"""Policies: flax Linen modules, `(params, memory, obs) -> (distribution, value, memory)`."""

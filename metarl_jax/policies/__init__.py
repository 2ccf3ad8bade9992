"""Policies: flax Linen modules that map memory and observation to a distribution."""

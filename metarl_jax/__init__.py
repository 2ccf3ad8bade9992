"""Meta-reinforcement learning in JAX: one compiled meta-training step."""

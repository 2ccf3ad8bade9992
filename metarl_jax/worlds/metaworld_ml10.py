"""An arm trained at ten of Meta-World's tasks, tested at five others."""

from metarl_jax.envs.metaworld import ml10
from metarl_jax.recipe import World
from metarl_jax.worlds.metaworld_ml1 import MANIPULATION

metaworld_ml10 = World(ml10, defaults=MANIPULATION)

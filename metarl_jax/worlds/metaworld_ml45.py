"""An arm trained at 45 of Meta-World's tasks, tested at five others."""

from metarl_jax.envs.metaworld import ml45
from metarl_jax.recipe import World
from metarl_jax.worlds.metaworld_ml1 import MANIPULATION

metaworld_ml45 = World(ml45, defaults=MANIPULATION)

"""An ant that has to go one way, moved by MuJoCo on the host (extra `[mujoco]`)."""

from metarl_jax.envs.mujoco import ant_along_a_direction
from metarl_jax.recipe import World
from metarl_jax.worlds.ant_goal import WALKING

ant_direction = World(ant_along_a_direction, defaults=WALKING)

"""A hopper whose masses, inertias, friction and damping are unknown (1903.08254)."""

from metarl_jax.envs import locomotion
from metarl_jax.recipe import World
from metarl_jax.worlds.half_cheetah_velocity import RUNNING
from metarl_jax.worlds.walker_parameters import unknown_bodies

hopper_parameters = World(unknown_bodies(locomotion.hopper_running()), defaults=RUNNING)

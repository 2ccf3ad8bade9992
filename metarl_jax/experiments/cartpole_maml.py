"""MAML on CartPoles whose physics is drawn for every task."""

from metarl_jax.methods.maml import maml
from metarl_jax.recipe import Recipe
from metarl_jax.worlds.cartpole import cartpole

cartpole_maml = Recipe(
    cartpole, maml, {"crossed_wires": 0.0, "num_steps": 40}, about=__doc__
)

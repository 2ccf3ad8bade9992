"""MAML on CartPoles whose wires may be crossed: what a policy must learn anew.

No policy balances such poles without adapting, so that the steps it takes to adapt can
be compared with those of learning from scratch. The physics is drawn as well, in the
ranges of moderate variation of Packer et al. 2018 (arXiv 1810.12282).
"""

from metarl_jax.methods.maml import maml
from metarl_jax.recipe import Recipe
from metarl_jax.worlds.cartpole import cartpole

cartpole_transfer = Recipe(
    cartpole,
    maml,
    {
        "force_mag": (5.0, 15.0),
        "length": (0.25, 0.75),
        "masspole": (0.05, 0.5),
        "gravity": (9.8, 9.8),
        "horizon": 500,
        "inner_lr": 1.0,
        "num_steps": 300,
    },
    about=__doc__,
)

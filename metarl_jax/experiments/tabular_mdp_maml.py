"""MAML on the random MDPs of Duan et al. 2016 (arXiv 1611.02779)."""

from metarl_jax.methods.maml import maml
from metarl_jax.recipe import Recipe
from metarl_jax.worlds.tabular_mdp import tabular_mdp

tabular_mdp_maml = Recipe(tabular_mdp, maml, about=__doc__)

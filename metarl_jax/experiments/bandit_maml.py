"""MAML on the Bernoulli bandits of Duan et al. 2016 (arXiv 1611.02779)."""

from metarl_jax.methods.maml import maml
from metarl_jax.recipe import Recipe
from metarl_jax.worlds.bandit import bandit

bandit_maml = Recipe(bandit, maml, about=__doc__)

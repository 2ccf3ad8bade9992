"""VariBAD on the 5x5 grid of Zintgraf et al. 2020 (arXiv 1910.08348).

A Bayes-optimal agent's episodes return 4.0, and 11.07 in all that follow. The
evaluation goes on for two episodes after those of training. Nothing is discounted, as
in these returns.
"""

from metarl_jax.methods.varibad import varibad
from metarl_jax.recipe import Recipe
from metarl_jax.worlds.grid_navigation import grid_navigation

grid_varibad = Recipe(grid_navigation, varibad, about=__doc__)

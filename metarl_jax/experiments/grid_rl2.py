"""RL² on the 5x5 grid of Zintgraf et al. 2020 (arXiv 1910.08348).

A Bayes-optimal agent's four episodes return 4.0, 11.07, 11.07 and 11.07. Nothing is
discounted, as in these returns: with 0.99 the second was seen to stay at 10.2.
"""

from metarl_jax.methods.rl2 import rl2
from metarl_jax.recipe import Recipe
from metarl_jax.worlds.grid_navigation import grid_navigation

grid_rl2 = Recipe(grid_navigation, rl2, about=__doc__)

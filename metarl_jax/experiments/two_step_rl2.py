"""RL² on the two-step task (Wang et al. 2016, arXiv 1611.05763).

A trial is 100 episodes of two steps.
"""

from metarl_jax.methods.rl2 import rl2
from metarl_jax.recipe import Recipe
from metarl_jax.worlds.two_step import two_step

two_step_rl2 = Recipe(two_step, rl2, about=__doc__)

"""DPT on the Gaussian bandits of Lee et al. 2023 (arXiv 2306.14892).

A policy with memory learns to name the best arm from what random pulls paid. What it
names, sampled, is to do as Thompson sampling does, which earns 77.2 of the 83.3 that
the best of 5 arms pays in 100 pulls. After 1000 steps it was seen to earn 72.8, and
77.6 by always taking the likeliest arm: its posterior is still too wide, with a loss of
1.04 where the exact one has 0.95. The paper's core is a transformer.
"""

from metarl_jax.methods.dpt import dpt
from metarl_jax.recipe import Recipe
from metarl_jax.worlds.gaussian_bandit import gaussian_bandit

bandit_dpt = Recipe(gaussian_bandit, dpt, about=__doc__)

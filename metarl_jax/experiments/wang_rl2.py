"""RL² on arms that tell of one another (Wang et al. 2016, arXiv 1611.05763).

Two arms for 100 pulls. As in the paper the policy has an LSTM of 48 units and is told
the time.
"""

from metarl_jax.methods.rl2 import rl2
from metarl_jax.recipe import Recipe
from metarl_jax.worlds.correlated_bandit import correlated_bandit

wang_rl2 = Recipe(correlated_bandit, rl2, about=__doc__)

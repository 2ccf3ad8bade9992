"""RL² on the random MDPs of Duan et al. 2016 (arXiv 1611.02779, Table 2).

Ten episodes of ten steps pay 100 to a random agent, 156.2 to the RL² of the paper and
218 to one that knows the MDP.
"""

from metarl_jax.methods.rl2 import rl2
from metarl_jax.recipe import Recipe
from metarl_jax.worlds.tabular_mdp import tabular_mdp

mdp_rl2 = Recipe(tabular_mdp, rl2, about=__doc__)

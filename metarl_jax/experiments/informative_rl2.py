"""RL² on arms of which one tells where the best is (Wang et al. 2016, 1611.05763).

Eleven arms for five pulls, and as many steps in a batch as other families have.
"""

from metarl_jax.methods.rl2 import rl2
from metarl_jax.recipe import Recipe
from metarl_jax.worlds.informative_bandit import informative_bandit

informative_rl2 = Recipe(informative_bandit, rl2, {"num_tasks": 2560}, about=__doc__)

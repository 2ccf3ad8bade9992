"""RL² on arms of which one tells where the best is (Wang et al. 2016, 1611.05763).

Eleven arms for five pulls. Nobody learns to ask who has stopped asking: the arm that
tells pays less than any other, and is worth pulling once one knows how to use what it
says. What makes that learned is an entropy weight that keeps every arm pulled until
then, and advantages without discounting.
"""

from metarl_jax.methods.rl2 import rl2
from metarl_jax.recipe import Recipe
from metarl_jax.worlds.informative_bandit import informative_bandit

informative_rl2 = Recipe(
    informative_bandit,
    rl2,
    {
        **{"num_tasks": 2560, "num_steps": 1000, "decay_steps": 1000},
        **{"entropy_coeff": 0.5, "discount": 1.0, "gae_lambda": 1.0},
    },
    about=__doc__,
)

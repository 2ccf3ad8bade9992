"""MAML on 2-D navigation, as in Finn et al. 2017 (arXiv 1703.03400, Table 4).

The reward is the negative distance to the goal and the policy's output is scaled by
0.1 before it is clipped, as in the authors' code, which the published returns need. The
inner surrogate is the likelihood ratio, whose Hessian is closer to the exact one than
that of the authors' score function (`--inner-surrogate score-function`): the curves
after two and three steps are better for it, and go on improving.
"""

from metarl_jax.methods.maml import maml
from metarl_jax.recipe import Recipe
from metarl_jax.worlds.point_nav import point_nav

point_nav_maml = Recipe(
    point_nav,
    maml,
    {"hidden_sizes": (100, 100), "num_steps": 150, "num_eval_episodes": 40},
    published={"Finn et al. 2017": (-40.41, -11.68, -3.33, -3.23)},
    about=__doc__,
)

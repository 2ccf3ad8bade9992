"""PEARL on the sparse half-circle of Rakelly et al. 2019 (arXiv 1903.08254).

The encoder sees what there will be to see in a held-out task: the reward near the goal
and zero elsewhere. Actor and critic learn, in meta-training, from that and a tenth of
the distance. With the distance alone, as in the authors' code, the best place while the
goal is not known is the middle of where it may be; with this reward it is where the
goal most likely is, and the next likely when that has been tried. Most contexts are
what was known in a trial so far, so that beliefs after failures are learned too.
Between two rounds of acting are few updates, for these contexts to be those of the
agent as it is. Squared errors of this reward are small, and so is the weight of the
divergence. Discount, goals and horizon are the authors'; networks, batches and the
number of updates (500 000) are smaller here, to take minutes on a CPU.

Who draws one goal an episode from the exact posterior and walks straight there has met
14, 27, 41, 54, 63 and 72 % of the held-out goals after so many episodes
(`metarl_jax.strategies.half_circle`).
"""

from metarl_jax.methods.pearl import pearl
from metarl_jax.recipe import Recipe
from metarl_jax.worlds.half_circle import half_circle

half_circle_pearl = Recipe(half_circle, pearl, about=__doc__)

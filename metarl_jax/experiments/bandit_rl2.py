"""RL² on the Bernoulli bandits of Duan et al. 2016 (arXiv 1611.02779, Table 1).

A trial is one episode of as many pulls as the horizon says. For 10 pulls a
Bayes-optimal learner earns 6.660 from 5 arms and 6.714 from 10. What matters most is
the entropy: without it training ends at the greedy learner's 6.5.
"""

from metarl_jax.methods.rl2 import rl2
from metarl_jax.recipe import Recipe
from metarl_jax.worlds.bandit import bandit

# By the number of pulls and of arms.
PUBLISHED = {
    (10, 5): 6.7,
    (10, 10): 6.7,
    (10, 50): 6.8,
    (100, 5): 78.7,
    (100, 10): 83.5,
    (100, 50): 84.9,
    (500, 5): 401.6,
    (500, 10): 432.5,
    (500, 50): 438.9,
}


def published(*, horizon: int, num_arms: int, **_) -> dict[str, tuple[float, ...]]:
    """Returns the paper's mean of one trial, where it has one."""
    value = PUBLISHED.get((horizon, num_arms))
    return {} if value is None else {"Duan et al. 2016": (value,)}


bandit_rl2 = Recipe(bandit, rl2, published=published, about=__doc__)

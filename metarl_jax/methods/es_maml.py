"""Meta-learning by evolution strategies (Song et al. 2020, arXiv 1910.01215)."""

from metarl_jax.algorithms.es_maml import es_maml as make_es_maml
from metarl_jax.recipe import Method
from metarl_jax.settings import Adaptation, PolicySettings, Rounds, adam
from metarl_jax.types import MetaAlgorithm, TaskDistribution


def build(
    tasks: TaskDistribution,
    policy: PolicySettings,
    *,
    rounds: Rounds = Rounds(num_tasks=100, num_episodes=4),
    adaptation: Adaptation = Adaptation(),
    sigma: float = 0.05,
    outer_lr: float = 5e-2,
) -> MetaAlgorithm:
    """Builds ES-MAML, whose gradient is made of one perturbation a task.

    Args:
      sigma: standard deviation of the perturbations of the parameters.
      outer_lr: learning rate of Adam as the meta-update.
    """
    return make_es_maml(
        tasks,
        policy.make(tasks, tasks.horizon),
        num_episodes=rounds.num_episodes,
        sigma=sigma,
        outer_optimizer=adam(outer_lr=outer_lr),
        **adaptation.arguments(rounds.num_tasks),
    )


es_maml = Method("es-maml", build, "gradient")

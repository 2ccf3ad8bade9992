"""An optimiser that is learned by evolution (Goldie et al. 2024, arXiv 2407.07082)."""

from metarl_jax.algorithms.learned_optimizer import learned_optimizer
from metarl_jax.optimizer_network import OptimizerNetwork
from metarl_jax.recipe import Method
from metarl_jax.settings import Lives, PolicySettings, adam
from metarl_jax.types import MetaAlgorithm, TaskDistribution
from metarl_jax.validation import check_positive


def build(
    tasks: TaskDistribution,
    policy: PolicySettings,
    *,
    lives: Lives = Lives(num_tasks=16, num_episodes=8, rollout_length=64),
    lifetime: int = 20,
    num_epochs: int = 4,
    num_minibatches: int = 4,
    clip_range: float = 0.2,
    optimizer_size: int = 8,
    optimizer_hidden_size: int = 16,
    outer_lr: float = 0.03,
    sigma: float = 0.03,
    discount: float = 0.99,
    gae_lambda: float = 0.95,
    entropy_coeff: float = 0.01,
    task_group_size: int | None = None,
) -> MetaAlgorithm:
    """Builds OPEN.

    Args:
      lifetime: updates of a life.
      num_epochs: passes over the steps of an update.
      num_minibatches: steps down in a pass.
      clip_range: a probability ratio has no gradient beyond 1 plus or minus this.
      optimizer_size: of the GRU that goes with every parameter.
      optimizer_hidden_size: of the layers that read it.
      outer_lr: learning rate of Adam as the meta-update.
      sigma: standard deviation of the optimiser's perturbations.
      discount: discount factor per step.
      gae_lambda: exponent of the advantages' average.
      entropy_coeff: weight of the entropy.
      task_group_size: pairs of lives at once.
    """
    check_positive(
        optimizer_size=optimizer_size, optimizer_hidden_size=optimizer_hidden_size
    )
    return learned_optimizer(
        tasks,
        policy.make(tasks, tasks.horizon, value_head=True),
        **lives.arguments(),
        lifetime=lifetime,
        num_epochs=num_epochs,
        num_minibatches=num_minibatches,
        network=OptimizerNetwork(optimizer_size, optimizer_hidden_size),
        clip_range=clip_range,
        outer_optimizer=adam(outer_lr=outer_lr),
        sigma=sigma,
        discount=discount,
        gae_lambda=gae_lambda,
        entropy_coeff=entropy_coeff,
        task_group_size=task_group_size,
    )


open = Method("open", build, "rule")

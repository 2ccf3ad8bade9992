"""A drift that is learned by evolution (Lu et al. 2022, arXiv 2210.05639)."""

from metarl_jax.algorithms.lpo import lpo as make_lpo
from metarl_jax.recipe import Method
from metarl_jax.settings import Lives, PolicySettings, adam
from metarl_jax.types import MetaAlgorithm, TaskDistribution
from metarl_jax.validation import check_sizes


def build(
    tasks: TaskDistribution,
    policy: PolicySettings,
    *,
    lives: Lives = Lives(num_tasks=16, num_episodes=8, rollout_length=64),
    lifetime: int = 20,
    num_epochs: int = 4,
    num_minibatches: int = 4,
    lr: float = 1e-3,
    clip_range: float = 0.2,
    drift_sizes: tuple[int, ...] = (128,),
    outer_lr: float = 1e-2,
    sigma: float = 0.1,
    discount: float = 0.99,
    gae_lambda: float = 0.95,
    task_group_size: int | None = None,
) -> MetaAlgorithm:
    """Builds LPO.

    Args:
      lifetime: updates of a life.
      num_epochs: passes over the steps of an update.
      num_minibatches: steps down in a pass.
      lr: learning rate of Adam, by which agents learn.
      clip_range: of PPO's clip, as which the drift begins.
      drift_sizes: widths of the drift's network.
      outer_lr: learning rate of Adam as the meta-update.
      sigma: standard deviation of the drift's perturbations.
      discount: discount factor per step.
      gae_lambda: exponent of the advantages' average.
      task_group_size: pairs of lives at once.
    """
    check_sizes(drift_sizes=drift_sizes)
    return make_lpo(
        tasks,
        policy.make(tasks, tasks.horizon, value_head=True),
        **lives.arguments(),
        lifetime=lifetime,
        num_epochs=num_epochs,
        num_minibatches=num_minibatches,
        hidden_sizes=drift_sizes,
        clip_range=clip_range,
        inner_optimizer=adam(lr=lr),
        outer_optimizer=adam(outer_lr=outer_lr),
        sigma=sigma,
        discount=discount,
        gae_lambda=gae_lambda,
        task_group_size=task_group_size,
    )


lpo = Method("lpo", build, "rule")

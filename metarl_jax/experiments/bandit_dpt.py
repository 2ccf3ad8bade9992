"""DPT on the Gaussian bandits of Lee et al. 2023 (arXiv 2306.14892)."""

from typing import Literal

import optax

from metarl_jax.algorithms.dpt import dpt
from metarl_jax.envs.bandit import bernoulli_bandit, gaussian_bandit
from metarl_jax.experiments import options
from metarl_jax.policies.memory import memory_policy
from metarl_jax.training import Evaluation, Experiment
from metarl_jax.validation import check_above_zero, check_positive


def bandit_dpt(
    *,
    num_arms: int = 5,
    reward: Literal["gaussian", "bernoulli"] = "gaussian",
    noise_std: float = 0.3,
    num_tasks: int = 64,
    horizon: int = 100,
    core: options.CoreName = "gru",
    size: int = 64,
    lr: float = 3e-3,
    decay_steps: int = 1000,
    num_steps: int = 1000,
    num_eval_tasks: int = 2000,
    num_eval_episodes: int = 1,
    num_adaptation_steps: int = 0,
) -> Experiment:
    """Trains a policy with memory to name the best arm from what random pulls paid.

    What it names, sampled, is to do as Thompson sampling does, which earns 77.2 of the
    83.3 that the best of 5 arms pays in 100 pulls. After 1000 steps it was seen to earn
    72.8, and 77.6 by always taking the likeliest arm: its posterior is still too wide,
    with a loss of 1.04 where the exact one has 0.95. The paper's core is a transformer.

    Args:
      num_arms: arms of a bandit.
      reward: how an arm pays around its mean.
      noise_std: standard deviation of a Gaussian reward.
      num_tasks: trials in a meta-training step, each of another bandit.
      horizon: pulls of a trial.
      core: what the policy remembers with.
      size: of its state.
      lr: first learning rate of Adam; it falls to zero along a cosine.
      decay_steps: meta-training steps until it has fallen.
      num_steps: meta-training steps.
      num_eval_tasks: held-out tasks of the evaluation.
      num_eval_episodes: episodes of each of them in every round of the evaluation.
      num_adaptation_steps: rounds after the first.
    """
    check_above_zero(lr=lr)
    check_positive(decay_steps=decay_steps)
    if reward == "gaussian":
        tasks = gaussian_bandit(num_arms=num_arms, horizon=horizon, noise_std=noise_std)
    else:
        tasks = bernoulli_bandit(num_arms=num_arms, horizon=horizon)
    algorithm = dpt(
        tasks,
        memory_policy(tasks, options.core_named(core, size=size, context=horizon)),
        num_tasks=num_tasks,
        outer_optimizer=optax.chain(
            optax.clip_by_global_norm(1.0),
            optax.adamw(
                optax.cosine_decay_schedule(lr, decay_steps), weight_decay=1e-4
            ),
        ),
    )
    return Experiment(
        tasks,
        algorithm,
        num_steps,
        Evaluation(num_eval_tasks, num_eval_episodes, num_adaptation_steps),
        adaptation_unit="episodes of experience",
    )

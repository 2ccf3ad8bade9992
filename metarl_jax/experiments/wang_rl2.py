"""RL² where arms are related and states are hidden (Wang et al. 2016, 1611.05763)."""

from typing import Literal

import optax

from metarl_jax.algorithms.rl2 import rl2
from metarl_jax.envs.bandit import (
    bernoulli_bandit,
    correlated_bandit,
    informative_bandit,
)
from metarl_jax.envs.two_step import two_step
from metarl_jax.experiments import options
from metarl_jax.policies.memory import memory_policy
from metarl_jax.training import Evaluation, Experiment
from metarl_jax.types import TaskDistribution

FamilyName = Literal[
    "independent", "uniform", "easy", "medium", "hard", "informative", "two-step"
]


def family_named(family: FamilyName) -> tuple[TaskDistribution, int]:
    """Returns a family of the paper and how many episodes a trial of it has."""
    if family == "independent":
        return bernoulli_bandit(num_arms=2, horizon=100), 1
    if family == "informative":
        return informative_bandit(), 1
    if family == "two-step":
        return two_step(), 100
    return correlated_bandit(family=family), 1


def wang_rl2(
    *,
    family: FamilyName = "medium",
    num_tasks: int = 128,
    core: options.CoreName = "lstm",
    size: int = 48,
    num_epochs: int = 4,
    num_minibatches: int = 8,
    lr: float = 2e-3,
    decay_steps: int = 500,
    clip_range: float = 0.2,
    entropy_coeff: float = 0.04,
    value_coeff: float = 0.5,
    discount: float = 0.99,
    gae_lambda: float = 0.9,
    num_steps: int = 500,
    num_eval_tasks: int = 4000,
    num_eval_episodes: int = 1,
    num_adaptation_steps: int = 0,
) -> Experiment:
    """Trains a policy with memory to use what one arm tells about the others.

    Two arms for 100 pulls, independent or correlated; eleven arms for five pulls, one
    of which tells where the best is; or 100 episodes of the two-step task. As in the
    paper the policy has an LSTM of 48 units and is told the time.

    Args:
      family: of tasks.
      num_tasks: trials in a meta-training step, each of another task.
      core: what the policy remembers with.
      size: of its state.
      num_epochs: passes through one step's trials.
      num_minibatches: updates in a pass.
      lr: first learning rate of Adam; it falls linearly to a fiftieth.
      decay_steps: meta-training steps until it has fallen.
      clip_range: a probability ratio has no gradient beyond 1 plus or minus this.
      entropy_coeff: first weight of the policy's entropy; it falls linearly to zero
        with the learning rate.
      value_coeff: weight of the squared value error relative to the returns' variance.
      discount: discount factor per step, across episode ends.
      gae_lambda: exponent of the advantages' average, likewise.
      num_steps: meta-training steps.
      num_eval_tasks: held-out tasks of the evaluation.
      num_eval_episodes: episodes that are averaged as one round of the evaluation.
      num_adaptation_steps: rounds after the first.
    """
    tasks, num_episodes = family_named(family)
    trial_length = num_episodes * tasks.horizon
    policy = memory_policy(
        tasks,
        options.core_named(core, size=size, context=trial_length),
        time_scale=trial_length,
    )
    algorithm = rl2(
        tasks,
        policy,
        num_tasks=num_tasks,
        num_episodes=num_episodes,
        num_epochs=num_epochs,
        num_minibatches=num_minibatches,
        outer_optimizer=options.decaying_adam(
            lr,
            decay_steps=decay_steps,
            updates_per_step=num_epochs * num_minibatches,
        ),
        clip_range=clip_range,
        entropy_coeff=optax.linear_schedule(entropy_coeff, 0.0, decay_steps),
        value_coeff=value_coeff,
        discount=discount,
        gae_lambda=gae_lambda,
    )
    return Experiment(
        tasks,
        algorithm,
        num_steps,
        Evaluation(num_eval_tasks, num_eval_episodes, num_adaptation_steps),
        adaptation_unit="episodes of experience",
    )

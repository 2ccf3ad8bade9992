"""RL² on the Bernoulli bandits of Duan et al. 2016 (arXiv 1611.02779, Table 1)."""

import optax

from metarl_jax.algorithms.rl2 import rl2
from metarl_jax.envs.bandit import bernoulli_bandit
from metarl_jax.experiments import options
from metarl_jax.policies.memory import memory_policy
from metarl_jax.training import Evaluation, Experiment

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


def bandit_rl2(
    *,
    num_arms: int = 5,
    num_tasks: int = 512,
    horizon: int = 10,
    core: options.CoreName = "gru",
    size: int = 64,
    show_time: bool = False,
    num_epochs: int = 4,
    num_minibatches: int = 4,
    lr: float = 2e-3,
    decay_steps: int = 600,
    clip_range: float = 0.2,
    entropy_coeff: float = 0.02,
    value_coeff: float = 0.5,
    discount: float = 0.99,
    gae_lambda: float = 0.3,
    num_steps: int = 600,
    num_eval_tasks: int = 20_000,
    num_eval_episodes: int = 1,
    num_adaptation_steps: int = 0,
) -> Experiment:
    """Trains a policy with memory to explore and exploit the arms of a bandit.

    A trial is one episode of as many pulls as the horizon says. For 10 pulls a
    Bayes-optimal learner earns 6.660 from 5 arms and 6.714 from 10. What matters most
    is the entropy: without it training ends at the greedy learner's 6.5.

    Args:
      num_arms: arms of a bandit.
      num_tasks: trials in a meta-training step, each of another bandit.
      horizon: pulls of a trial.
      core: what the policy remembers with.
      size: of its state.
      show_time: tell the policy how many pulls it has made.
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
      num_eval_episodes: episodes of each of them in every round of the evaluation; the
        policy learnt to play the first one.
      num_adaptation_steps: rounds after the first.
    """
    tasks = bernoulli_bandit(num_arms=num_arms, horizon=horizon)
    policy = memory_policy(
        tasks,
        options.core_named(core, size=size, context=horizon),
        time_scale=horizon if show_time else None,
    )
    algorithm = rl2(
        tasks,
        policy,
        num_tasks=num_tasks,
        num_episodes=1,
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
    published = PUBLISHED.get((horizon, num_arms))
    return Experiment(
        tasks,
        algorithm,
        num_steps,
        Evaluation(num_eval_tasks, num_eval_episodes, num_adaptation_steps),
        published={} if published is None else {"Duan et al. 2016": (published,)},
        adaptation_unit="episodes of experience",
    )

"""RL² on the random MDPs of Duan et al. 2016 (arXiv 1611.02779, Table 2)."""

import optax

from metarl_jax.algorithms.rl2 import rl2
from metarl_jax.envs.tabular_mdp import tabular_mdp
from metarl_jax.experiments import options
from metarl_jax.policies.memory import memory_policy
from metarl_jax.training import Evaluation, Experiment


def mdp_rl2(
    *,
    num_tasks: int = 1024,
    num_episodes: int = 10,
    horizon: int = 10,
    core: options.CoreName = "gru",
    size: int = 64,
    num_epochs: int = 4,
    num_minibatches: int = 16,
    lr: float = 3e-3,
    decay_steps: int = 500,
    clip_range: float = 0.2,
    entropy_coeff: float = 0.03,
    value_coeff: float = 0.5,
    discount: float = 0.99,
    gae_lambda: float = 0.3,
    num_steps: int = 500,
    num_eval_tasks: int = 4000,
    num_eval_episodes: int = 1,
    num_adaptation_steps: int = 9,
) -> Experiment:
    """Trains a policy with memory to explore MDPs of ten states and five actions.

    A trial is as many episodes of ten steps as `num_episodes` says; ten of them pay 100
    to a random agent, 156.2 to the RL² of the paper and 218 to one that knows the MDP.

    Args:
      num_tasks: trials in a meta-training step, each of another MDP.
      num_episodes: episodes of a trial.
      horizon: time limit of an episode in steps.
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
    tasks = tabular_mdp(horizon=horizon)
    context = num_episodes * horizon
    algorithm = rl2(
        tasks,
        memory_policy(tasks, options.core_named(core, size=size, context=context)),
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

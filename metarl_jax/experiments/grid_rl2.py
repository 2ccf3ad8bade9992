"""RL² on the 5x5 grid of Zintgraf et al. 2020 (arXiv 1910.08348)."""

import optax

from metarl_jax.algorithms.rl2 import rl2
from metarl_jax.envs.grid_navigation import grid_navigation
from metarl_jax.experiments import options
from metarl_jax.policies.hypernetwork import hypernetwork_policy
from metarl_jax.policies.memory import memory_policy
from metarl_jax.training import Evaluation, Experiment


def grid_rl2(
    *,
    num_tasks: int = 128,
    num_episodes: int = 4,
    num_exploration_episodes: int = 0,
    horizon: int = 15,
    core: options.CoreName = "gru",
    size: int = 64,
    hidden_sizes: tuple[int, ...] = (),
    hypernetwork: bool = False,
    initialisation: options.InitialisationName = "bias-hyperinit",
    num_epochs: int = 4,
    num_minibatches: int = 4,
    lr: float = 2e-3,
    decay_steps: int = 2000,
    clip_range: float = 0.2,
    entropy_coeff: float = 0.03,
    value_coeff: float = 0.5,
    discount: float = 1.0,
    gae_lambda: float = 0.95,
    num_steps: int = 2000,
    num_eval_tasks: int = 1000,
    num_eval_episodes: int = 1,
    num_adaptation_steps: int = 3,
) -> Experiment:
    """Trains a policy with memory to search a grid for a goal and to return to it.

    A Bayes-optimal agent's four episodes return 4.0, 11.07, 11.07 and 11.07. Nothing is
    discounted, as in these returns: with 0.99 the second was seen to stay at 10.2.

    Args:
      num_tasks: trials in a meta-training step, each of another task.
      num_episodes: episodes of a trial.
      num_exploration_episodes: how many of them, from the first, are left out of the
        objective.
      horizon: time limit of an episode in steps.
      core: what the policy remembers with.
      size: of its state.
      hidden_sizes: widths of the layers between what is remembered and the actions; of
        those between the observation and the actions with a hypernetwork.
      hypernetwork: let what is remembered decide the weights of the policy, and the
        policy act on the observation (Beck et al. 2023, arXiv 2309.14970).
      initialisation: of the hypernetwork.
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
    tasks = grid_navigation(horizon=horizon)
    context = num_episodes * horizon
    remembering = options.core_named(core, size=size, context=context)
    if hypernetwork:
        policy = hypernetwork_policy(
            tasks,
            remembering,
            initialisation=options.initialisation_named(initialisation),
            hidden_sizes=hidden_sizes,
        )
    else:
        policy = memory_policy(tasks, remembering, hidden_sizes=hidden_sizes)
    algorithm = rl2(
        tasks,
        policy,
        num_tasks=num_tasks,
        num_episodes=num_episodes,
        num_exploration_episodes=num_exploration_episodes,
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

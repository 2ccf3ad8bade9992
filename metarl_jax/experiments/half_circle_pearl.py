"""PEARL on the sparse half-circle of Rakelly et al. 2019 (arXiv 1903.08254)."""

from typing import Any, Literal

import jax.numpy as jnp
import optax

from metarl_jax.algorithms.pearl import pearl
from metarl_jax.envs.point_navigation import sparse_point_navigation
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.training import Evaluation, Experiment


def half_circle_pearl(
    *,
    num_tasks: int = 16,
    num_episodes: int = 6,
    horizon: int = 20,
    train_reward: Literal["dense", "shaped", "sparse"] = "shaped",
    num_train_tasks: int = 160,
    num_initial_episodes: int = 30,
    num_updates: int = 100,
    batch_size: int = 32,
    context_size: int = 100,
    trial_fraction: float = 0.8,
    capacity: int = 5000,
    recent_capacity: int = 600,
    latent_size: int = 8,
    hidden_sizes: tuple[int, ...] = (64, 64),
    lr: float = 1e-3,
    temperature: float = 0.02,
    kl_coeff: float = 3e-4,
    discount: float = 0.9,
    target_rate: float = 0.01,
    num_steps: int = 360,
    num_eval_tasks: int = 200,
    num_eval_episodes: int = 1,
    num_adaptation_steps: int = 5,
) -> Experiment:
    """Trains an agent to find a goal on a half-circle by trying where it may be.

    The encoder sees what there will be to see in a held-out task: the reward near the
    goal and zero elsewhere. Actor and critic learn, in meta-training, from that and a
    tenth of the distance. With the distance alone, as in the authors' code, the best
    place while the goal is not known is the middle of where it may be; with this reward
    it is where the goal most likely is, and the next likely when that has been tried.
    Most contexts are what was known in a trial so far, so that beliefs after failures
    are learned too. Between two rounds of acting are few updates, for these contexts to
    be those of the agent as it is. Squared errors of this reward are small, and so is
    the weight of the divergence. Discount, goals and horizon are the authors';
    networks, batches and the number of updates (500 000) are smaller here, to take
    minutes on a CPU.

    Who draws one goal an episode from the exact posterior and walks straight there has
    met 14, 27, 41, 54, 63 and 72 % of the held-out goals after so many episodes
    (`metarl_jax.strategies.half_circle`).

    Args:
      num_tasks: tasks that a meta-training step acts in, and tasks of an update.
      num_episodes: episodes of each of them in a step.
      horizon: time limit of an episode in steps.
      train_reward: what actor and critic learn from (`sparse_point_navigation`).
      num_train_tasks: meta-training tasks, drawn from the eighty goals.
      num_initial_episodes: random episodes in each of them at the start.
      num_updates: updates in a meta-training step.
      batch_size: steps of each task in an update.
      context_size: the most steps that a belief is made of in an update.
      trial_fraction: how many of these contexts are what was known in a trial so far.
      capacity: steps of each task that the replay buffer holds.
      recent_capacity: how many of the last of them contexts are made of.
      latent_size: size of the latent variable.
      hidden_sizes: widths of the hidden layers of actor, critic and encoder.
      lr: learning rate of Adam; after 24 000 updates it falls to a tenth in 12 000.
      temperature: weight of the policy's entropy.
      kl_coeff: weight of the divergence of beliefs from the prior.
      discount: discount factor per step.
      target_rate: how far the target critic moves in an update.
      num_steps: meta-training steps.
      num_eval_tasks: held-out tasks of the evaluation.
      num_eval_episodes: episodes between one inference and the next in the evaluation.
      num_adaptation_steps: how often it infers.
    """
    tasks = sparse_point_navigation(horizon=horizon, train_reward=train_reward)
    env: Any = tasks.env

    def sparse_reward(task, trajectory):
        distance = jnp.linalg.norm(trajectory.next_obs - task.goal, axis=-1)
        return env.reward(distance, task.replace(dense=False))

    algorithm = pearl(
        tasks,
        mlp_policy(tasks, squashed=True, hidden_sizes=hidden_sizes),
        num_tasks=num_tasks,
        num_episodes=num_episodes,
        num_train_tasks=num_train_tasks,
        num_initial_episodes=num_initial_episodes,
        num_updates=num_updates,
        batch_size=batch_size,
        context_size=context_size,
        trial_fraction=trial_fraction,
        capacity=capacity,
        recent_capacity=recent_capacity,
        latent_size=latent_size,
        hidden_sizes=hidden_sizes,
        encoder_hidden_sizes=hidden_sizes,
        optimizer=optax.adam(optax.exponential_decay(lr, 12_000, 0.1, 24_000)),
        temperature=temperature,
        kl_coeff=kl_coeff,
        discount=discount,
        target_rate=target_rate,
        context_reward=sparse_reward,
    )
    return Experiment(
        tasks,
        algorithm,
        num_steps,
        Evaluation(num_eval_tasks, num_eval_episodes, num_adaptation_steps),
        goal=lambda task: task.goal,
        belief=lambda agent: (agent.memory.mean, jnp.sqrt(agent.memory.variance)),
        adaptation_unit="episodes of experience",
    )

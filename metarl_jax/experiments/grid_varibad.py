"""VariBAD on the 5x5 grid of Zintgraf et al. 2020 (arXiv 1910.08348)."""

from typing import Any

import jax
import jax.numpy as jnp

from metarl_jax import rollout, trials
from metarl_jax.algorithms.varibad import varibad
from metarl_jax.envs.grid_navigation import grid_navigation
from metarl_jax.experiments import options
from metarl_jax.policies.decoders import RewardPerState
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.strategies.grid import PosteriorSamplingGrid
from metarl_jax.training import Evaluation, Experiment

SIZE = 5
NUM_TRIALS_DRAWN = 2


def grid_varibad(
    *,
    num_tasks: int = 128,
    num_episodes: int = 4,
    horizon: int = 15,
    core: options.CoreName = "gru",
    size: int = 64,
    latent_size: int = 5,
    hidden_sizes: tuple[int, ...] = (64, 64),
    decoder_hidden_sizes: tuple[int, ...] = (32, 32),
    num_epochs: int = 4,
    num_belief_epochs: int = 1,
    num_minibatches: int = 4,
    lr: float = 2e-3,
    belief_lr: float = 5e-3,
    decay_steps: int = 2000,
    kl_coeff: float = 0.1,
    policy_moves_encoder: bool = False,
    clip_range: float = 0.2,
    entropy_coeff: float = 0.05,
    value_coeff: float = 0.5,
    discount: float = 1.0,
    gae_lambda: float = 0.95,
    num_steps: int = 2000,
    num_eval_tasks: int = 1000,
    num_eval_episodes: int = 1,
    num_adaptation_steps: int = 5,
) -> Experiment:
    """Trains a belief about where the goal is and a policy that acts on it.

    A Bayes-optimal agent's episodes return 4.0, and 11.07 in all that follow. The
    evaluation goes on for two episodes after those of training. Nothing is discounted,
    as in these returns.

    Args:
      num_tasks: trials in a meta-training step, each of another task.
      num_episodes: episodes of a trial.
      horizon: time limit of an episode in steps.
      core: what the encoder remembers with.
      size: of its state.
      latent_size: numbers that the belief is about.
      hidden_sizes: widths of the hidden layers of the policy and of its critic.
      decoder_hidden_sizes: widths of the hidden layers of the reward decoder.
      num_epochs: the policy's passes through one step's trials.
      num_belief_epochs: the encoder's and the decoder's.
      num_minibatches: updates in a pass.
      lr: first learning rate of the policy's Adam; it falls linearly to a fiftieth.
      belief_lr: likewise of the encoder's and decoder's.
      decay_steps: meta-training steps until they have fallen.
      kl_coeff: weight of what the belief learns in a step, against the likelihood.
      policy_moves_encoder: whether the policy's gradient flows into the encoder.
      clip_range: a probability ratio has no gradient beyond 1 plus or minus this.
      entropy_coeff: weight of the policy's entropy.
      value_coeff: weight of the squared value error relative to the returns' variance.
      discount: discount factor per step, across episode ends.
      gae_lambda: exponent of the advantages' average, likewise.
      num_steps: meta-training steps.
      num_eval_tasks: held-out tasks of the evaluation.
      num_eval_episodes: episodes that are averaged as one round of the evaluation.
      num_adaptation_steps: rounds after the first.
    """
    tasks = grid_navigation(horizon=horizon, size=SIZE)
    context = num_episodes * horizon
    decoder = RewardPerState(SIZE**2, decoder_hidden_sizes)
    algorithm = varibad(
        tasks,
        mlp_policy(tasks, hidden_sizes=hidden_sizes, activation=jnp.tanh),
        core=options.core_named(core, size=size, context=context),
        latent_size=latent_size,
        decoder=decoder,
        critic=mlp_policy(
            tasks, hidden_sizes=hidden_sizes, activation=jnp.tanh, value_head=True
        ),
        num_tasks=num_tasks,
        num_episodes=num_episodes,
        num_epochs=num_epochs,
        num_belief_epochs=num_belief_epochs,
        num_minibatches=num_minibatches,
        outer_optimizer=options.decaying_adam(
            lr,
            decay_steps=decay_steps,
            updates_per_step=num_epochs * num_minibatches,
        ),
        belief_optimizer=options.decaying_adam(
            belief_lr,
            decay_steps=decay_steps,
            updates_per_step=num_belief_epochs * num_minibatches,
        ),
        kl_coeff=kl_coeff,
        policy_moves_encoder=policy_moves_encoder,
        clip_range=clip_range,
        entropy_coeff=entropy_coeff,
        value_coeff=value_coeff,
        discount=discount,
        gae_lambda=gae_lambda,
    )

    def beliefs(key, state):
        """Records trials with the learned belief and the exact posterior."""

        def one_trial(key):
            key_task, key_act, key_latents = jax.random.split(key, 3)
            policy: Any = algorithm.policy
            agent = state.agent
            task = tasks.sample_heldout(key_task)
            _, trajectories = rollout.collect(
                key_act, tasks, policy, agent, task, num_episodes=num_episodes
            )
            steps = trials.stream(trajectories)
            belief = policy.beliefs(agent.params, agent.memory, steps)
            learned: Any = decoder.apply(
                state.decoder, key_latents, belief, method="which_pays"
            )
            return {
                "goal": task.goal,
                "cell": _cells(steps),
                "learned": learned.reshape(-1, SIZE, SIZE),
                "exact": _posterior(steps),
            }

        recorded = jax.vmap(one_trial)(jax.random.split(key, NUM_TRIALS_DRAWN))
        return {**recorded, "horizon": horizon}

    return Experiment(
        tasks,
        algorithm,
        num_steps,
        Evaluation(num_eval_tasks, num_eval_episodes, num_adaptation_steps),
        goal_beliefs=beliefs,
        adaptation_unit="episodes of experience",
    )


def _cells(steps):
    """Returns where the agent is before each step and after the last, `[L + 1, 2]`."""
    obs = jnp.append(steps.obs, steps.next_obs[-1:], axis=0)
    return jnp.stack(jnp.divmod(jnp.argmax(obs, axis=-1), SIZE), axis=-1)


def _posterior(steps):
    """Returns the exact posterior over goals along a trial, `[L + 1, 5, 5]`."""
    agent = PosteriorSamplingGrid()

    def observe(memory, step):
        memory = agent.observe(memory, step)
        return memory, memory.possible

    start = agent.initial_memory()
    _, after = jax.lax.scan(observe, start, steps)
    possible = jnp.append(start.possible[None], after, axis=0)
    return possible / jnp.sum(possible, axis=(1, 2), keepdims=True)

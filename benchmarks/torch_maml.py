"""MAML on 2-D navigation as it would be written in PyTorch: what `peers.py` times.

Idiomatic and vectorised: `torch.func` differentiates the adaptation of all tasks under
one `vmap`, the environment is NumPy on all episodes at once. The mathematics is that of
`metarl_jax.algorithms.maml` with an optax optimiser: a linear feature baseline for each
task, the score function inside, the likelihood ratio outside, second derivatives.
"""
# PyTorch is an extra.
# pyright: reportMissingImports=false

import time
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

STEP, MAX_STEP, GOAL_RANGE = 0.1, 0.1, 0.5


class Policy(nn.Module):
    """A Gaussian whose mean is a network's and whose deviation is free."""

    def __init__(self, width: int):
        super().__init__()
        self.mean = nn.Sequential(
            *(nn.Linear(2, width), nn.ReLU()),
            *(nn.Linear(width, width), nn.ReLU()),
            nn.Linear(width, 2),
        )
        self.log_std = nn.Parameter(torch.zeros(2))

    def forward(self, obs):
        """Returns mean and log σ."""
        return self.mean(obs), self.log_std


class Data(NamedTuple):
    """Episodes of all tasks; all `[N, E, T, ...]`."""

    obs: torch.Tensor
    action: torch.Tensor
    log_prob: torch.Tensor
    advantage: torch.Tensor


def log_prob(mean, log_std, action):
    """Returns log π(a), up to the same constant everywhere."""
    z = (action - mean) * torch.exp(-log_std)
    return (-0.5 * z**2 - log_std).sum(-1)


def advantages(obs: np.ndarray, reward: np.ndarray, discount: float) -> np.ndarray:
    """Returns normalised advantages `[N, E, T]` over each task's linear baseline."""
    num_tasks, num_episodes, horizon = reward.shape
    to_go, carry = np.empty_like(reward), np.zeros(reward.shape[:2])
    for t in reversed(range(horizon)):
        carry = reward[..., t] + discount * carry
        to_go[..., t] = carry
    step = np.broadcast_to(np.arange(horizon)[:, None] / 100.0, (*reward.shape, 1))
    features = np.concatenate(
        [obs, obs**2, step, step**2, step**3, np.ones_like(step)], axis=-1
    ).reshape(num_tasks, num_episodes * horizon, -1)
    transposed = features.swapaxes(1, 2)
    gram = transposed @ features + 1e-5 * np.eye(features.shape[-1])
    weights = np.linalg.solve(gram, transposed @ to_go.reshape(num_tasks, -1, 1))
    # With λ = 1 the advantage is what remains of the return.
    advantage = to_go - (features @ weights).reshape(reward.shape)
    mean = advantage.mean((1, 2), keepdims=True)
    return (advantage - mean) / (advantage.std((1, 2), keepdims=True) + 1e-8)


class MAML:
    """Meta-training of one policy; `step` makes a meta-iteration."""

    def __init__(
        self,
        *,
        num_tasks: int,
        num_episodes: int,
        horizon: int,
        width: int = 64,
        inner_lr: float = 0.1,
        outer_lr: float = 1e-3,
        discount: float = 0.99,
        seed: int = 0,
    ):
        torch.manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        self.shape = num_tasks, num_episodes, horizon
        self.inner_lr, self.discount = inner_lr, discount
        self.policy = Policy(width)
        self.optimizer = torch.optim.Adam(self.policy.parameters(), lr=outer_lr)
        self.meta_gradient = grad(self.objective)

    def act(self, params, obs):
        """Calls the policy with given parameters."""
        return functional_call(self.policy, params, (obs,))

    def inner_loss(self, params, data):
        """Returns what adaptation descends, for one task."""
        mean, log_std = self.act(params, data.obs)
        return -(log_prob(mean, log_std, data.action) * data.advantage).mean()

    def adapt(self, params, data):
        """Takes one gradient step, for one task."""
        gradients = grad(self.inner_loss)(params, data)
        return {name: params[name] - self.inner_lr * gradients[name] for name in params}

    def objective(self, params, before, after):
        """Returns what the outer step descends: the mean over tasks."""

        def one_task(before, after):
            adapted = self.adapt(params, before)
            mean, log_std = self.act(adapted, after.obs)
            ratio = torch.exp(log_prob(mean, log_std, after.action) - after.log_prob)
            return -(ratio * after.advantage).mean()

        return vmap(one_task)(before, after).mean()

    @torch.no_grad()
    def collect(self, params, goals: np.ndarray) -> tuple[Data, float]:
        """Acts with each task's parameters `[N, ...]`; returns data and mean return."""
        num_tasks, num_episodes, horizon = self.shape
        position = np.zeros((num_tasks, num_episodes, 2), np.float32)
        noise = torch.randn(horizon, *position.shape)
        columns: list[list[Any]] = [[], [], [], []]
        for t in range(horizon):
            obs = torch.as_tensor(position)
            mean, log_std = vmap(self.act)(params, obs)
            log_std = log_std[:, None]
            action = mean + torch.exp(log_std) * noise[t]
            move = np.clip(STEP * action.numpy(), -MAX_STEP, MAX_STEP)
            position = position + move
            reward = -np.linalg.norm(position - goals[:, None], axis=-1)
            taken = (obs, action, log_prob(mean, log_std, action), reward)
            for column, value in zip(columns, taken, strict=True):
                column.append(value)
        obs, action, log_probs = (torch.stack(x, dim=2) for x in columns[:3])
        reward = np.stack(columns[3], axis=2)
        advantage = advantages(obs.numpy(), reward, self.discount)
        data = Data(obs, action, log_probs, torch.as_tensor(advantage).float())
        return data, float(reward.sum(-1).mean())

    def step(self) -> dict[str, float]:
        """Makes a meta-iteration; returns its seconds and its returns."""
        num_tasks = self.shape[0]
        start = time.perf_counter()
        goals = self.rng.uniform(-GOAL_RANGE, GOAL_RANGE, (num_tasks, 2))
        params = {k: v.detach() for k, v in self.policy.named_parameters()}
        shared = {k: v.expand(num_tasks, *v.shape) for k, v in params.items()}
        before, return_before = self.collect(shared, goals.astype(np.float32))
        adapted = vmap(self.adapt)(shared, before)
        after, return_after = self.collect(adapted, goals.astype(np.float32))
        sampled = time.perf_counter()
        gradients = self.meta_gradient(params, before, after)
        for name, parameter in self.policy.named_parameters():
            parameter.grad = gradients[name]
        self.optimizer.step()
        end = time.perf_counter()
        return {
            "seconds": end - start,
            "sampling_seconds": sampled - start,
            "update_seconds": end - sampled,
            "return_before": return_before,
            "return_after": return_after,
        }

"""Many copies of tasks as a vector environment of Stable-Baselines3."""

from typing import Any

import numpy as np

from metarl_jax.envs.gymnasium_vector import as_gymnasium_vector
from metarl_jax.types import Task, TaskDistribution


def as_stable_baselines(
    tasks: TaskDistribution, task: Task, *, num_envs: int | None = None, seed: int = 0
) -> Any:
    """Makes copies of a task, or a batch of tasks, a `VecEnv` of Stable-Baselines3.

    All copies take a step in one compiled program. Episodes begin anew in the step in
    which they end; the last observation is in `infos[i]["terminal_observation"]`, and
    `infos[i]["TimeLimit.truncated"]` tells a time limit from an end.

    Args:
      tasks: as in `as_gymnasium_vector`.
      task: likewise.
      num_envs: likewise.
      seed: likewise.

    Raises:
      ValueError: as `as_gymnasium_vector` does, or without Stable-Baselines3.
    """
    copies = as_gymnasium_vector(
        tasks, task, num_envs=num_envs, seed=seed, autoreset_mode="SameStep"
    )
    try:
        from stable_baselines3.common.vec_env import VecEnv  # pyright: ignore
    except ModuleNotFoundError:
        raise ValueError(
            "Stable-Baselines3 is not installed; it comes with: "
            'pip install "metarl-jax[peers]"'
        ) from None

    class Copies(VecEnv):
        """`GymnasiumTasks` as Stable-Baselines3 asks for it."""

        def __init__(self, env):
            self.env, self._actions = env, None
            self.render_mode = None
            super().__init__(
                env.num_envs, env.single_observation_space, env.single_action_space
            )

        def reset(self):
            seeds = self._seeds if any(s is not None for s in self._seeds) else None
            obs, _ = self.env.reset(seed=seeds)
            self._reset_seeds()
            return obs

        def step_async(self, actions):
            self._actions = actions

        def step_wait(self):
            obs, reward, terminated, truncated, found = self.env.step(self._actions)
            infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
            over = terminated | truncated
            for i in np.flatnonzero(over):
                infos[i]["terminal_observation"] = found["final_obs"][i]
                infos[i]["TimeLimit.truncated"] = bool(truncated[i])
            return obs, reward.astype(np.float32), over, infos

        def close(self):
            self.env.close()

        def get_attr(self, attr_name, indices=None):
            value = getattr(self.env, attr_name)
            return [value for _ in self._get_indices(indices)]

        def set_attr(self, attr_name, value, indices=None):
            raise AttributeError("the copies are one program; attributes are fixed")

        def env_method(self, method_name, *args, indices=None, **kwargs):
            raise AttributeError(f"the copies are one program without {method_name}")

        def env_is_wrapped(self, wrapper_class, indices=None):
            return [False for _ in self._get_indices(indices)]

    return Copies(copies)

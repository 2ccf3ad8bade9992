"""Probes: what can be read out of a representation, by the simplest of readers.

A probe is fitted on some trials and judged on others, so that what it says is held by
the representation and not by the probe. Two controls belong beside it: a network that
was never trained, and targets dealt out at random (Hewitt & Liang 2019, arXiv
1909.03368). Of a recurrent network the first fails only for a reader of small capacity:
a random one holds the last tens of steps, and a probe of all features reads them.
"""

from collections.abc import Callable

import numpy as np

_PENALTIES = np.logspace(-4, 4, 17)

Reader = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def linear(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Predicts by ridge regression, its penalty chosen by leaving one out.

    ŷ = W x + b of the least Σ ‖ŷ - y‖² + λ ‖W‖², on features of unit variance; λ is the
    one of a wide range whose predictions of the left-out are best, in closed form:
    e_i / (1 - h_i) with the hat matrix' diagonal h.

    Args:
      x: `[N, F]` features.
      y: `[N, P]` targets.
      new: `[M, F]`.

    Returns:
      `[M, P]` predictions.
    """
    mean, scale = x.mean(axis=0), x.std(axis=0)
    used = scale > 1e-6 * (1 + np.abs(mean))  # of constants nothing can be read
    x, new = ((z[:, used] - mean[used]) / scale[used] for z in (x, new))
    centre = y.mean(axis=0)
    if not used.any():
        return np.broadcast_to(centre, (len(new), y.shape[1]))
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    uy = u.T @ (y - centre)

    def left_out(penalty):
        shrink = s**2 / (s**2 + penalty)
        hat = (u**2) @ shrink + 1 / len(x)
        residual = (y - centre - u @ (shrink[:, None] * uy)) / (1 - hat)[:, None]
        return np.sum(residual**2 / (y.var(axis=0) + 1e-12))

    penalty = min(len(x) * _PENALTIES, key=left_out)
    weights = vt.T @ ((s / (s**2 + penalty))[:, None] * uy)
    return new @ weights + centre


def nearest(
    x: np.ndarray, y: np.ndarray, new: np.ndarray, *, num_neighbours: int = 8
) -> np.ndarray:
    """Predicts the mean target of the nearest neighbours, by features of unit variance.

    Args:
      x: `[N, F]` features.
      y: `[N, P]` targets.
      new: `[M, F]`.
      num_neighbours: how many; at most N.

    Returns:
      `[M, P]` predictions.
    """
    scale = x.std(axis=0)
    scale = np.where(scale > 1e-6 * (1 + np.abs(x.mean(axis=0))), scale, np.inf)
    x, new = x / scale, new / scale
    squares = np.sum(new**2, axis=1)[:, None] + np.sum(x**2, axis=1) - 2 * new @ x.T
    near = np.argpartition(squares, min(num_neighbours, len(x)) - 1, axis=1)
    return y[near[:, :num_neighbours]].mean(axis=1)


def main_directions(rank: int) -> Reader:
    """Makes the reader of no more than the directions in which features differ most.

    Ridge regression on the first principal axes of the trials that it is fitted on.
    What a network merely has not forgotten yet lies in many small directions, of which
    a probe of all features makes as much as of large ones; what it was made to hold
    lies in few.

    Args:
      rank: how many directions.

    Returns:
      A reader like `linear`.
    """

    def read(x, y, new):
        centre = x.mean(axis=0)
        axes = principal_axes(x, rank)[1]
        return linear((x - centre) @ axes.T, y, (new - centre) @ axes.T)

    return read


def cross_validated(
    x: np.ndarray, y: np.ndarray, read: Reader = linear, *, num_folds: int = 5
) -> np.ndarray:
    """Predicts every target by a probe that has not seen it.

    Args:
      x: `[N, F]` features.
      y: `[N, P]` targets.
      read: the probe, `linear` or `nearest`.
      num_folds: parts; each is predicted from the others.

    Returns:
      `[N, P]` predictions.

    Raises:
      ValueError: if there are fewer rows than two a fold.
    """
    if len(x) < 2 * num_folds:
        raise ValueError(
            f"a probe of {num_folds} folds needs at least {2 * num_folds} trials; got "
            f"{len(x)}"
        )
    x, y = np.asarray(x, float), np.asarray(y, float)
    predicted = np.empty_like(y)
    fold = np.arange(len(x)) % num_folds
    for i in range(num_folds):
        held = fold == i
        predicted[held] = read(x[~held], y[~held], x[held])
    return predicted


def r_squared(y: np.ndarray, predicted: np.ndarray) -> float:
    """Returns the share of the targets' variance that predictions explain.

    R² = 1 - Σ (y - ŷ)² / Σ (y - ȳ)², the mean over targets that vary: 1 for the truth,
    0 for always saying the mean, below for less.

    Args:
      y: `[N, P]` targets.
      predicted: `[N, P]`.
    """
    y, predicted = np.asarray(y, float), np.asarray(predicted, float)
    total = np.sum((y - y.mean(axis=0)) ** 2, axis=0)
    varies = total > 0
    if not varies.any():
        return float("nan")
    error = np.sum((y - predicted) ** 2, axis=0)
    return float(np.mean(1 - error[varies] / total[varies]))


def principal_axes(
    x: np.ndarray, num_axes: int = 2
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Finds the directions in which rows differ most (Pearson 1901).

    Args:
      x: `[N, F]`.
      num_axes: how many.

    Returns:
      Coordinates `[N, num_axes]`; the orthonormal directions `[num_axes, F]`, each with
      its largest entry positive; and the share of the variance of each `[num_axes]`.
      Zeros where there are fewer.
    """
    x = np.asarray(x, float)
    centred = x - x.mean(axis=0)
    _, s, vt = np.linalg.svd(centred, full_matrices=False)
    axes = np.zeros((num_axes, x.shape[1]))
    shares = np.zeros(num_axes)
    found = min(num_axes, len(s))
    axes[:found] = vt[:found]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    axes *= np.where(largest < 0, -1, 1)
    if s.any():
        shares[:found] = s[:found] ** 2 / np.sum(s**2)
    return centred @ axes.T, axes, shares

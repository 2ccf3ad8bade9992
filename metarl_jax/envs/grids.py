"""What square grids have in common."""

import numpy as np

# Stay, up, right, down, left, as (x, y).
MOVES = np.array([[0, 0], [0, 1], [1, 0], [0, -1], [-1, 0]], np.int32)

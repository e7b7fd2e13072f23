"""grad-cam's system of noisy linear imputation, after its authors' own, solved as a dense one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pytorch_grad_cam.metrics.road import NoisyLinearImputer, neighbors_weights


def by_grad_cam(image: NDArray[np.floating], removed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the (C, H, W) image whose removed pixels solve grad-cam's equations, without noise."""
    left = (~removed).astype(np.float32)
    system, right = NoisyLinearImputer.setup_sparse_system(left, image.astype(np.float64), neighbors_weights)
    filled = image.astype(np.float64).copy()
    filled[:, removed] = np.linalg.solve(system.toarray(), right).T
    return filled

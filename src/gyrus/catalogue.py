"""What gyrus knows by name, from the registries that also feed the documentation."""

from __future__ import annotations

import platform
from dataclasses import asdict
from typing import Any

from gyrus._version import __version__


def info() -> dict[str, Any]:
    """Return everything known by name, one list of cards per kind, with versions and what this machine offers."""
    import torch

    from gyrus.baselines import list_baselines
    from gyrus.datasets import dataset_info, list_datasets
    from gyrus.devices import has_fast_bf16
    from gyrus.evaluate import list_metrics
    from gyrus.explain import list_methods
    from gyrus.models import list_models
    from gyrus.shipped import list_shipped
    from gyrus.thresholds import list_thresholds

    return {
        "schema": "gyrus.info/1",
        "gyrus": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.is_available(),
        "bf16": has_fast_bf16(torch.device("cpu")),
        "datasets": [asdict(dataset_info(name)) for name in list_datasets()],
        "models": list_models(),
        "shipped": list_shipped(),
        "methods": list_methods(),
        "baselines": list_baselines(),
        "thresholds": list_thresholds(),
        "metrics": list_metrics(),
    }

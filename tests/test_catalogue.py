"""``gyrus.info``: everything known by name, straight from the registries."""

from __future__ import annotations

import json
import platform

import torch

import gyrus
from gyrus.baselines import list_baselines
from gyrus.catalogue import info
from gyrus.evaluate.cards import FAMILIES


def test_holds_the_registries_whole() -> None:
    value = info()
    assert [d["name"] for d in value["datasets"]] == list(gyrus.list_datasets())
    assert value["models"] == gyrus.list_models()
    assert value["methods"] == gyrus.list_methods()
    assert value["thresholds"] == gyrus.list_thresholds()
    assert value["metrics"] == gyrus.list_metrics()
    assert {m["family"] for m in value["metrics"]} == set(FAMILIES)
    assert value["baselines"] == list_baselines()
    assert all(d["title"] and d["licence"] for d in value["datasets"])
    for key in ("datasets", "models", "methods", "thresholds", "metrics", "baselines"):
        names = [card["name"] for card in value[key]]
        assert len(set(names)) == len(names) > 0


def test_says_what_runs() -> None:
    value = info()
    assert (value["schema"], value["gyrus"]) == ("gyrus.info/1", gyrus.__version__)
    assert (value["python"], value["torch"]) == (platform.python_version(), torch.__version__)
    assert value["cuda"] is torch.cuda.is_available()
    assert value["threads"] == torch.get_num_threads()


def test_is_plain_json() -> None:
    text = json.dumps(info(), allow_nan=False)
    assert json.loads(text)["models"]

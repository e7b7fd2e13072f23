"""The public names: what ``gyrus`` offers, and what importing it costs."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
import types

import pytest

import gyrus
import gyrus.evaluate

LAZY = (gyrus, gyrus.evaluate)
HEAVY = {
    *("torch", "torchvision", "timm", "lightning", "matplotlib", "nilearn", "sklearn", "scipy", "cv2", "h5py"),
    *("numpy", "PIL", "pydantic", "safetensors", "jinja2", "typer", "rich", "pandas", "nibabel"),
}
MOST = 150  # modules; a bare interpreter with importlib and typing has well under a hundred


def loaded_by(statement: str, *flags: str) -> set[str]:
    """Return the modules that a fresh interpreter has after a statement; -I keeps this project's folders out."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, *flags, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return set(json.loads(done.stdout))


def names(package: types.ModuleType) -> list[str]:
    """Return what a package offers, its version aside."""
    return [name for name in package.__all__ if name != "__version__"]


class TestNames:
    @pytest.mark.parametrize("package", LAZY)
    def test_are_those_that_are_fetched_on_first_use(self, package: types.ModuleType) -> None:
        assert package.__all__ == sorted(package.__all__)
        assert len(set(package.__all__)) == len(package.__all__)
        assert sorted(names(package)) == sorted(package._HOME)
        assert dir(package) == sorted(package.__all__)

    @pytest.mark.parametrize("package", LAZY)
    def test_type_checkers_see_the_same(self, package: types.ModuleType) -> None:
        """The imports for type checkers name every public thing, from where it is fetched."""
        source = inspect.getsource(package).split("if TYPE_CHECKING:\n")[1].split("\n_HOMES")[0]
        seen: dict[str, object] = {}
        exec(inspect.cleandoc(source), seen)
        del seen["__builtins__"]
        assert seen == {name: getattr(package, name) for name in package._HOME}

    @pytest.mark.parametrize(("package", "name"), [(package, name) for package in LAZY for name in names(package)])
    def test_can_be_imported_and_is_documented(self, package: types.ModuleType, name: str) -> None:
        thing = getattr(package, name)
        assert thing is getattr(importlib.import_module(package._HOME[name]), name)
        assert inspect.isclass(thing) or inspect.isfunction(thing)
        assert thing.__name__ == name
        assert thing.__module__.startswith("gyrus.")
        words = inspect.getdoc(thing) or ""
        assert len(words.split()) >= 4, f"{name} is not documented"
        own = [m for m, value in vars(thing).items() if isinstance(value, types.FunctionType) and m[0] != "_"]
        assert [m for m in own if inspect.isclass(thing) and not inspect.getdoc(getattr(thing, m))] == []

    @pytest.mark.parametrize("package", LAZY)
    def test_functions_have_types_throughout(self, package: types.ModuleType) -> None:
        for name in names(package):
            thing = getattr(package, name)
            if inspect.isfunction(thing):
                signature = inspect.signature(thing)
                assert signature.return_annotation is not inspect.Signature.empty, name
                untyped = [p.name for p in signature.parameters.values() if p.annotation is inspect.Parameter.empty]
                assert untyped == [], name

    def test_star_import_gives_all_of_them(self) -> None:
        found: dict[str, object] = {}
        exec("from gyrus import *", found)
        assert set(gyrus.__all__) <= set(found)

    def test_an_unknown_name_is_an_attribute_error(self) -> None:
        with pytest.raises(AttributeError, match="has no attribute 'guess'"):
            _ = gyrus.guess
        with pytest.raises(AttributeError, match="has no attribute 'guess'"):
            _ = gyrus.evaluate.guess
        with pytest.raises(ImportError):
            exec("from gyrus import guess")

    def test_version_is_that_of_the_distribution(self) -> None:
        from importlib.metadata import version

        assert version("gyrus") == gyrus.__version__

    def test_the_errors_are_what_callers_expect(self) -> None:
        assert issubclass(gyrus.InputError, gyrus.GyrusError)
        assert issubclass(gyrus.InputError, ValueError)
        assert issubclass(gyrus.MissingExtraError, gyrus.GyrusError)
        assert issubclass(gyrus.MissingExtraError, ImportError)


class TestImport:
    def test_gyrus_alone_loads_next_to_nothing(self) -> None:
        before, after = loaded_by(""), loaded_by("import gyrus", "-W", "error")
        assert {m.split(".")[0] for m in after} & HEAVY == set()
        assert {m for m in after if m.startswith("gyrus")} == {"gyrus", "gyrus._version"}
        assert len(after) <= MOST
        assert "gyrus" not in before

    @pytest.mark.parametrize(
        ("statement", "spared"),
        [
            ("import gyrus.records", {"torch", "matplotlib", "nilearn", "h5py", "scipy", "sklearn", "pandas"}),
            ("import gyrus.cli", {"torch", "matplotlib", "nilearn", "h5py", "scipy", "sklearn", "timm", "lightning"}),
            ("import gyrus.report", {"torch", "torchvision", "timm", "lightning", "nilearn", "h5py"}),
            ("from gyrus.evaluate import evaluate_run, score_map, score_kept, ssim", {"torch", "matplotlib"}),
            ("import gyrus.rundata, gyrus.maps, gyrus.predictions", {"torch", "matplotlib", "nilearn", "h5py"}),
            ("import gyrus.datasets, gyrus.splits, gyrus.phantom", {"torch", "matplotlib", "nilearn", "h5py"}),
        ],
    )
    def test_heavy_parts_wait_until_they_are_needed(self, statement: str, spared: set[str]) -> None:
        assert {m.split(".")[0] for m in loaded_by(statement, "-W", "error")} & spared == set()

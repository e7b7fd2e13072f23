"""What holds of the source as a whole: which way imports go, and what no module may do."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "gyrus"

# From the ground up. What stands on one floor does not know of each other; imports inside functions count too.
FLOORS = (
    {
        *("_version", "augment", "confusion", "depthwise", "errors", "findings", "guides", "headline", "holes"),
        *("intervals",),
        *("paths", "regions", "sheets", "shipped", "titles", "words"),
    },
    {
        *("artifacts", "catalogue_tables", "devices", "epochs", "io", "options", "page", "runtimes", "study_tables"),
        "thresholds",
    },
    {"certainty", "geometry", "preprocess", "records"},
    {"appearance", "baselines", "datasets", "erasure", "loading", "maps", "models", "partition", "predictions"},
    {
        *("console", "convert", "duplicates", "explain", "features", "phantom", "planes", "probes", "refusal"),
        *("prediction_tables", "sequences", "tables", "trainconfig"),
    },
    {"batches", "drawings", "exported", "groups", "inference", "synthetic"},
    {"engines", "joining", "splits", "teaching"},
    {"audit", "data_verbs", "rundata", "training"},
    {"evaluate", "report", "stages"},
    {"calibrate", "catalogue", "demo", "export", "leaderboard", "stress"},
    {"stage_verbs", "studies"},
    {"study_verbs"},
    {"cli"},
    {"__main__"},
)
LONGEST = 400
SPEAKERS = {"cli", "console"}
BINARY = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".dcm", ".nii", ".gz", ".mat", ".npy")
BINARY += (".npz", ".onnx", ".pth", ".pt", ".safetensors", ".ckpt", ".pkl", ".h5", ".zip")


@cache
def modules() -> dict[str, Path]:
    """Return every module's dotted name without "gyrus.", a package by its own name, and its file."""
    found = {}
    for path in SOURCE.rglob("*.py"):
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        found[name.removesuffix("__init__").removesuffix(".")] = path
    return found


@cache
def parsed(name: str) -> ast.Module:
    return ast.parse(modules()[name].read_text(encoding="utf-8"))


def imported(name: str, *, on_import: bool = False) -> Iterator[str]:
    """Yield the dotted names a module imports, of gyrus's own the module that is meant; those for type checkers too.

    With ``on_import``, what functions import when they are called is left out.
    """
    nodes: Iterable[ast.AST] = ast.walk(parsed(name)) if not on_import else parsed(name).body
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            home = str(node.module)
            for alias in node.names:
                inner = f"{home}.{alias.name}"
                yield inner if inner.removeprefix("gyrus.") in modules() else home


def own(name: str, *, on_import: bool = False) -> set[str]:
    """Return the gyrus modules that a module imports, without "gyrus."."""
    return {i.removeprefix("gyrus.") for i in imported(name, on_import=on_import) if f"{i}.".startswith("gyrus.")}


def calls(name: str) -> Iterator[str]:
    """Yield what a module calls, as it is written."""
    for node in ast.walk(parsed(name)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def below_the_package() -> list[str]:
    return sorted(name for name in modules() if name)


class TestFloors:
    def test_every_module_has_one(self) -> None:
        parts = [part for floor in FLOORS for part in floor]
        assert sorted(parts) == sorted({name.split(".")[0] for name in below_the_package()})

    def test_imports_go_down(self) -> None:
        height = {part: i for i, floor in enumerate(FLOORS) for part in floor}
        wrong = [
            f"{name} imports {other}"
            for name in below_the_package()
            for other in own(name)
            if other.split(".")[0] != name.split(".")[0]
            and height.get(other.split(".")[0], 99) >= height[name.split(".")[0]]
        ]
        assert wrong == []

    def test_no_module_is_part_of_a_circle(self) -> None:
        """Module by module, so inside packages too."""
        done: set[str] = set()

        def visit(name: str, path: tuple[str, ...]) -> None:
            assert name not in path, " -> ".join((*path, name))
            if name not in done:
                for other in sorted(own(name, on_import=True) - {name}):
                    visit(other, (*path, name))
                done.add(name)

        for name in below_the_package():
            visit(name, ())
        assert done == set(below_the_package())  # none asks for the package as a whole either

    def test_what_is_imported_late_to_break_a_circle_is_the_registry_of_datasets_alone(self) -> None:
        """The readers import the registry they are entered in; it names them when it is first asked."""
        late = {
            (name, other)
            for name in below_the_package()
            for other in own(name) - own(name, on_import=True)
            if name in reached_from(other)
        }
        assert {name for name, _ in late} == {"datasets.registry"}
        assert {other.rpartition(".")[0] for _, other in late} == {"datasets"}


@cache
def reached_from(name: str) -> frozenset[str]:
    """Return every module that is imported, at once or in turn, when one is."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        new = own(waiting.pop(), on_import=True) - found
        found |= new
        waiting += new
    return frozenset(found)


class TestLibrary:
    def test_only_the_command_line_speaks(self) -> None:
        assert {name for name in modules() if "print" in calls(name)} <= SPEAKERS
        assert {name for name in modules() if any(c.startswith("sys.std") for c in calls(name))} == set()

    def test_only_the_command_line_ends_the_process(self) -> None:
        ends = {"exit", "quit", "sys.exit", "os._exit", "os.abort", "os.kill"}
        raises = {
            name
            for name in modules()
            for node in ast.walk(parsed(name))
            if isinstance(node, ast.Raise) and node.exc is not None and "SystemExit" in ast.unparse(node.exc)
        }
        assert {name for name in modules() if ends & set(calls(name))} | raises == {"cli"}

    def test_no_warning_is_silenced(self) -> None:
        wrong = [
            f"{name}: {c}" for name in modules() for c in calls(name) if c.endswith(("filterwarnings", "simplefilter"))
        ]
        wrong += [f"{name}: catch_warnings" for name in modules() for c in calls(name) if c.endswith("catch_warnings")]
        wrong += [
            f"{name}: captureWarnings" for name in modules() for c in calls(name) if c.endswith("captureWarnings")
        ]
        assert wrong == []

    def test_nothing_is_pickled(self) -> None:
        banned = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "marshal", "shelve"}
        assert [n for n in modules() if banned & {i.split(".")[0] for i in imported(n)}] == []
        loads = [
            ast.unparse(node)
            for name in modules()
            for node in ast.walk(parsed(name))
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "np.load")
        ]
        assert loads
        assert all("weights_only=True" in call for call in loads), loads

    def test_no_global_random_state(self) -> None:
        """Drawing from it, or seeding it; torch's is seeded only where fork_rng gives it back."""
        drawn = re.compile(r"^(np|numpy)\.random\.(?!default_rng|SeedSequence|Generator)|^random\.")
        assert [f"{n}: {c}" for n in modules() for c in calls(n) if drawn.match(c)] == []
        seeds = {n for n in modules() if any(c.endswith("torch.manual_seed") for c in calls(n))}
        assert seeds <= {"training", "models.registry"}
        assert all("torch.random.fork_rng" in set(calls(n)) for n in seeds)

    def test_nothing_but_imports_and_definitions_at_import(self) -> None:
        """No module-level loop, branch or call whose result is thrown away, but for what a module is run as."""
        allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.FunctionDef, ast.ClassDef, ast.AugAssign)
        wrong = []
        for name in modules():
            for node in parsed(name).body:
                words = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
                guard = isinstance(node, ast.If) and re.match("TYPE_CHECKING|__name__ == ", ast.unparse(node.test))
                command = name == "cli" and ast.unparse(node).startswith("app.add_typer(")
                if not (isinstance(node, allowed) or words or guard or command):
                    wrong.append(f"{name}: {ast.unparse(node)[:80]}")
        assert wrong == []

    def test_every_module_says_what_it_is(self) -> None:
        for name in modules():
            text = modules()[name].read_text(encoding="utf-8")
            if name != "_version":  # one line that the build reads
                assert ast.get_docstring(parsed(name)), name
                assert "from __future__ import annotations\n" in text, name

    def test_modules_are_short(self) -> None:
        lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules().items()}
        assert {name: n for name, n in lines.items() if n > LONGEST} == {}


class TestTrackedFiles:
    @pytest.fixture(scope="class")
    @staticmethod
    def tracked() -> list[Path]:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if listed.returncode:
            pytest.skip("not a git checkout")
        return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]

    def test_pictures_are_in_the_docs_alone(self, tracked: list[Path]) -> None:
        binary = [p.relative_to(ROOT) for p in tracked if p.suffix.lower() in BINARY]
        base = Path("src/gyrus/shipped/gyrus-base")
        shipped = {
            Path("src/gyrus/planes/planes.safetensors"),
            Path("src/gyrus/sequences/sequences.onnx"),
            base / "model.safetensors",
            base / "reference.safetensors",
        }
        assert [p for p in binary if p.parts[:2] != ("docs", "assets") and p not in shipped] == []
        kept = {p.relative_to(ROOT) for p in tracked}
        odd = [p for p in tracked if p.relative_to(ROOT) in kept - set(binary) and b"\0" in p.read_bytes()]
        assert odd == []

    def test_no_machine_is_named(self, tracked: list[Path]) -> None:
        """No path of one machine, no host of a package registry but the public pages a reader is sent to."""
        # spelt in parts, so that this file does not name them either
        paths = re.compile(
            r"(?<![\w./-])/(?:" + "|".join(("work", "home/\\w+", "Users/\\w+", "root", "mnt/\\w+")) + r")/"
        )
        hosts = re.compile("|".join(("index" + "-url", "https?://[^\\s\"')]*(?:artifactory|nexus|devpi|/simple\\b)")))
        text = [(p, p.read_text(encoding="utf-8")) for p in tracked if p.suffix.lower() not in BINARY]
        found = [f"{p.relative_to(ROOT)}: {m.group()}" for p, t in text for m in paths.finditer(t)]
        found += [
            f"{p.relative_to(ROOT)}: {m.group()}"
            for p, t in text
            for m in hosts.finditer(t.replace("--no-emit-index-url", ""))
        ]
        assert found == []

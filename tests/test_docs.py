"""The documentation holds: its snippets run, its links lead somewhere, its tables say what the code does."""

from __future__ import annotations

import ast
import contextlib
import csv
import importlib
import importlib.util
import inspect
import io
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import gyrus
import gyrus.evaluate
import gyrus.explain
from gyrus import cli
from gyrus.studies import find_study

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
TUTORIAL = DOCS / "tutorial.md"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
TEXTS = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
VERBS = ("info", "data", "audit", "split", "train", "calibrate", "predict", "explain")
VERBS += ("evaluate", "stress", "report", "export", "demo")

NOT_RUN = {
    "docs/how-to/audit.md": "needs a dataset with an official split",
    "docs/how-to/cheng.md": "needs the Cheng images",
    "docs/how-to/export.md": "needs a model that was trained for longer than the tutorial's",
    "docs/how-to/volumes.md": "needs a volume and a trained run",
    "docs/how-to/weights.md": "needs the network once",
}
"""Every block that is shown and not run, and why; a new one must be added here."""


@dataclass
class Block:
    """A fenced block: its language, its lines, and the reason why it is not run, if it is not."""

    language: str
    lines: list[str] = field(default_factory=list)
    reason: str = ""

    def commands(self) -> list[tuple[str, list[str]]]:
        """Return the gyrus commands of a shell block, each with the output shown below it."""
        found: list[tuple[str, list[str]]] = []
        for line in "\n".join(self.lines).replace("\\\n", " ").splitlines():
            words = line.removeprefix("$ ") if self.language == "console" else line
            command = line.startswith("$ ") if self.language == "console" else True
            if command:
                found.append((words, []))
            elif found:
                found[-1][1].append(line)
        return [(c, out) for c, out in found if re.search(r"\bgyrus ", c.split("#")[0])]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    found: list[Block] = []
    inside, reason = None, ""
    for line in page.read_text(encoding="utf-8").splitlines():
        if inside is not None:
            if line.strip() == "```":
                inside = None
            else:
                inside.lines.append(line)
        elif fence := re.fullmatch(r"```(\w*)", line.strip()):
            inside = Block(fence[1], reason=reason)
            found.append(inside)
            reason = ""
        elif mark := re.fullmatch(r"<!-- not run: (.+) -->", line):
            reason = mark[1]
        elif line.strip():
            reason = ""
    assert inside is None, f"{page} leaves a block open"
    return found


def call(words: str) -> tuple[int, str, str]:
    """Run one command line in this process; return its exit code, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    argv = sys.argv
    try:
        sys.argv = shlex.split(words)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as stop:
            cli.main()
    finally:
        sys.argv = argv
    return int(stop.value.code or 0), out.getvalue(), err.getvalue()


def shown_as(expected: list[str], printed: str) -> bool:
    """Whether a text fits what the page shows: blanks count as one, ``...`` as anything."""
    parts = [" ".join(p.split()) for p in "\n".join(expected).split("...")]
    return bool(re.fullmatch(".*".join(map(re.escape, parts)), " ".join(printed.split()), re.DOTALL)) or bool(
        re.fullmatch(r"\s*.*\s*".join(re.escape(p) for p in parts), " ".join(printed.split()), re.DOTALL)
    )


def run_page(page: Path) -> None:
    """Run a page's blocks in order, in the current folder, sharing one namespace."""
    names: dict[str, Any] = {"__name__": "__docs__"}
    for block in blocks(page):
        if block.reason:
            continue
        if block.language == "python":
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile("\n".join(block.lines), name_of(page), "exec"), names)  # the project's own pages
        elif block.language == "yaml":  # a recipe, which the page tells the reader to save under its name
            text = "\n".join(block.lines)
            Path(f"{re.findall(r'^name: (.+)$', text, re.MULTILINE)[0]}.yaml").write_text(text, encoding="utf-8")
        elif block.language in ("console", "bash"):
            for words, expected in block.commands():
                code, out, err = call(words)
                refused = any(line.startswith("error:") for line in expected)
                assert code == (2 if refused else 0), f"{name_of(page)}: {words}\n{out}{err}"
                if block.language == "console":
                    said = err if refused else out
                    assert shown_as(expected, said), f"{name_of(page)}: {words} prints\n{said}\nnot\n{expected}"


@pytest.fixture(scope="module", autouse=True)
def few_threads() -> Iterator[None]:
    """Small networks are slower on many threads than on one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the tutorial leaves behind, with which other pages start."""
    folder = tmp_path_factory.mktemp("tutorial")
    with contextlib.chdir(folder):
        run_page(TUTORIAL)
    return folder


def start(page: Path, folder: Path, tutorial: Path) -> None:
    """Put into an empty folder what a page says it starts from."""
    found = re.search(r"^<!-- starts from: (\w+) -->$", page.read_text(encoding="utf-8"), re.MULTILINE)
    if found and found[1] == "tutorial":
        shutil.copytree(tutorial, folder, dirs_exist_ok=True)
    elif found:
        assert found[1] == "demo", f"{page} starts from {found[1]!r}, which nothing makes"
        shutil.copytree(tutorial, folder / "gyrus-demo")  # the same layout, made in seconds


def test_the_tutorial_runs_and_leaves_a_report(tutorial: Path) -> None:
    assert "patient-wise" in (tutorial / "run" / "report.html").read_text(encoding="utf-8")
    assert {p.name for p in (tutorial / "run").iterdir()} == {
        "config.json", "split.json", "epochs.csv", "model", "run.json", "predict", "explain", "evaluate", "report.html",
    }  # fmt: skip
    assert (tutorial / "one.csv").is_file()


@pytest.mark.parametrize(
    "page",
    [p for p in PAGES if p != TUTORIAL and any(b.language in ("python", "console", "bash") for b in blocks(p))],
    ids=name_of,
)
def test_the_snippets_of_a_page_run(
    page: Path, tmp_path: Path, tutorial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    start(page, tmp_path, tutorial)
    run_page(page)


def test_the_blocks_that_are_not_run_are_known() -> None:
    skipped = {name_of(p): b.reason for p in PAGES for b in blocks(p) if b.reason}
    assert skipped == NOT_RUN


def test_the_shape_of_shown_output() -> None:
    assert shown_as(["kept epoch ... in run"], "kept epoch 3 in run\n")
    assert shown_as(["a", "...", "b"], "a   \n x\n y \nb\n")
    assert shown_as(["..."], "anything")
    assert not shown_as(["a", "...", "b"], "a x c")
    assert not shown_as(["a"], "a b")


# What the pages name


def hooks() -> ModuleType:
    found = importlib.util.spec_from_file_location("docs_hooks", DOCS / "hooks.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def known_flags() -> dict[str, set[str]]:
    """Return each command's options, ``"data info" -> {"--as", ...}``, as its own parser has them."""
    import typer

    def walk(command: Any, words: str) -> Iterator[tuple[str, set[str]]]:
        if hasattr(command, "commands"):
            for name, inner in command.commands.items():
                yield from walk(inner, f"{words} {name}".strip())
        else:
            yield words, {flag for p in command.params for flag in (*p.opts, *p.secondary_opts) if flag[:1] == "-"}

    return dict(walk(typer.main.get_command(cli.app), ""))


def test_every_command_in_the_docs_exists_with_its_flags() -> None:
    flags = known_flags()
    for page in TEXTS:
        text = page.read_text(encoding="utf-8")
        spoken = re.findall(r"`((?:[A-Z_]+=\S+ )*gyrus [^`\n]+)`", text)
        spoken += [c for b in blocks(page) if b.language in ("bash", "console") for c, _ in b.commands()]
        for words in spoken:
            parts = words.split("#")[0].split()
            parts = parts[parts.index("gyrus") + 1 :]
            two = " ".join(parts[:2])
            verb = two if two in flags else parts[0]
            assert verb in flags or verb == "data", f"{name_of(page)} names a verb that is not there: {words}"
            for part in parts:
                if part.startswith("--"):
                    assert part in flags[verb], f"{name_of(page)}: {words}: {verb} has no {part}"


def test_every_flag_in_prose_exists() -> None:
    known = set().union(*known_flags().values())
    for page in TEXTS:
        for flag in re.findall(r"`(--[a-z][a-z0-9-]*)", page.read_text(encoding="utf-8")):
            assert flag in known, f"{name_of(page)} names {flag}"


def test_every_make_target_in_the_docs_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in TEXTS:
        for target in re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE):
            assert target in targets, f"{name_of(page)} names make {target}"


def test_the_readme_names_every_verb() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [v for v in VERBS if not re.search(rf"\bgyrus {v}\b", text)]
    assert not missing


def test_the_command_reference_has_every_command_and_flag() -> None:
    page = hooks().command_line()
    for verb, flags in known_flags().items():
        section = re.search(rf"^## gyrus {verb}$(.+?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
        assert section, verb
        missing = [f for f in flags - {"--help"} if f"`{f}`" not in section[1]]
        assert not missing, f"{verb}: {missing}"


def test_the_generated_tables_name_everything() -> None:
    made = hooks()
    for part in ("datasets", "models", "methods", "baselines", "thresholds", "metrics"):
        text = made.PARTS[part]()
        assert not [row["name"] for row in gyrus.info()[part] if row["name"] not in text]
    used = set(re.findall(r"<!-- generated: (\w+) -->", "".join(p.read_text(encoding="utf-8") for p in PAGES)))
    assert used == set(made.PARTS)


def test_the_python_reference_has_every_public_name() -> None:
    text = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    named = re.findall(r"^::: (gyrus\.[\w.]+)$", text, re.MULTILINE)
    assert len(set(named)) == len(named)
    for name in named:
        home, _, last = name.rpartition(".")
        assert inspect.getdoc(getattr(importlib.import_module(home), last)), name
    assert {n.removeprefix("gyrus.") for n in named if n.count(".") == 1} == {*gyrus.__all__} - {"__version__"}
    for part in (gyrus.evaluate, gyrus.explain):
        offered = {n for n in part.__all__ if inspect.isclass(getattr(part, n)) or inspect.isfunction(getattr(part, n))}
        shown = {n.rpartition(".")[2] for n in named}
        assert offered <= shown, f"{part.__name__}: {sorted(offered - shown)}"


def slug(title: str) -> str:
    return re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", title.lower()).strip())


def test_internal_links_lead_somewhere() -> None:
    for page in TEXTS:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if "://" in target:
                continue
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            assert file.is_file(), f"{name_of(page)}: {target}"
            if anchor and not anchor.startswith("gyrus."):
                titles = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
                assert anchor in [slug(t.replace("`", "")) for t in titles], f"{name_of(page)}: {target}"


def test_the_navigation_has_every_page_once() -> None:
    def leaves(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        else:
            for inner in entry.values() if isinstance(entry, dict) else entry:
                yield from leaves(inner)

    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    assert sorted(leaves(nav)) == sorted(p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.md"))


def test_the_citation_file_is_whole() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    assert cited["cff-version"] == "1.2.0"
    assert cited["version"] == gyrus.__version__
    assert cited["license"] == "Apache-2.0"
    assert all(set(a) <= {"name", "family-names", "given-names", "orcid", "affiliation"} for a in cited["authors"])


def test_no_page_names_a_machine_path_or_a_registry() -> None:
    for page in [*TEXTS, ROOT / "CITATION.cff", ROOT / "mkdocs.yml"]:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"(?<![\w.])/(home|work|root|tmp|Users|mnt)/|[A-Z]:\\|pypi\.org|anaconda\.org", text), page


def test_pictures_are_small() -> None:
    pictures = [p for p in (DOCS / "assets").iterdir() if p.suffix in (".webp", ".png", ".svg")]
    assert pictures
    assert all(p.stat().st_size < 200_000 for p in pictures)


# The floors that architecture.md draws


def modules() -> dict[str, Path]:
    found = {}
    for path in (ROOT / "src" / "gyrus").rglob("*.py"):
        name = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> Iterator[tuple[str, bool]]:
    """Yield the gyrus modules a file imports, and whether on import; those for type checkers alone are left out."""

    def visit(node: ast.AST, lazy: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            if isinstance(child, ast.ImportFrom) and (child.module or "").split(".")[0] == "gyrus":
                for alias in child.names:
                    inner = f"{child.module}.{alias.name}"
                    yield inner if inner in known else str(child.module), lazy
            yield from visit(child, lazy or isinstance(child, ast.FunctionDef))

    return visit(ast.parse(path.read_text(encoding="utf-8")), False)


def part(module: str) -> str:
    """Return the module or package directly below gyrus that a dotted name lies in."""
    return module.split(".")[1] if "." in module else ""


def drawn_floors() -> dict[str, tuple[int, bool]]:
    """Return what architecture.md draws: part -> its floor, and whether it says that importing it loads torch."""
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^(\d+) +(\w+)(?:\.py|/) +(.+)$", text, re.MULTILINE)
    return {name: (int(floor), said.endswith("(T)")) for floor, name, said in rows}


def test_the_architecture_page_draws_the_floors_as_they_are() -> None:
    known = modules()
    above: dict[str, set[str]] = {part(m): set() for m in known if part(m)}
    for module, path in known.items():
        if part(module):
            above[part(module)] |= {part(m) for m, _ in imports(path, known)} - {part(module), ""}

    def floor(name: str, below: tuple[str, ...] = ()) -> int:
        assert name not in below, f"imports go in a circle: {below}"
        return max((1 + floor(n, (*below, name)) for n in above[name]), default=0)

    assert {name: drawn for name, (drawn, _) in drawn_floors().items()} == {name: floor(name) for name in above}


def test_the_architecture_page_says_what_loads_torch() -> None:
    known = modules()

    def reached(module: str, seen: set[str]) -> set[str]:
        words = module.split(".")
        for name in (".".join(words[: i + 1]) for i in range(len(words))):  # importing a.b runs a first
            if name in known and name not in seen:
                seen.add(name)
                for inner, lazy in imports(known[name], known):
                    if not lazy:
                        reached(inner, seen)
        return seen

    def loads_torch(name: str) -> bool:
        texts = (known[m].read_text(encoding="utf-8") for m in reached(f"gyrus.{name}", set()))
        return any(re.search(r"^(import|from) (torch|lightning)\b", text, re.MULTILINE) for text in texts)

    assert {n: torch for n, (_, torch) in drawn_floors().items()} == {n: loads_torch(n) for n in drawn_floors()}


# The JSON documents


@dataclass
class Node:
    """What a table says stands at one place of a document."""

    types: set[str] = field(default_factory=set)
    shape: str = ""
    keys: dict[str, Node] = field(default_factory=dict)
    items: Node | None = None

    def at(self, path: str) -> Node:
        """Return the node at a path like ``rows[].grid[]``, made if need be."""
        node = self
        for word in re.findall(r"\[\]|(?:\{[^}]*\}|[^.\[\]])+", path):
            if word == "[]":
                node.types.add("list")
                node.items = node.items or Node()
                node = node.items
            else:
                node.types.add("object")
                node = node.keys.setdefault(word, Node())
        return node


TABLE = re.compile(r"^(#{2,3}) (.+?)\n(.*?)(?=^#{2,3} |\Z)", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| (`[^`]+`|\.\.\.) \| ([^|]+) \|", re.MULTILINE)


def documented(page: str) -> dict[str, Node]:
    """Return heading -> what its table says."""
    found = {}
    for _, title, body in TABLE.findall((DOCS / "reference" / page).read_text(encoding="utf-8")):
        node = Node()
        for path, types in ROW.findall(body):
            place = node if path == "..." else node.at(path.strip("`"))
            for word in types.split(" or "):
                if shape := re.fullmatch(r"\[(\w+)\]\(#\w+\)", word):
                    place.shape = shape[1]
                else:
                    place.types.add(word)
        found[title] = node
    return found


def fits(value: Any, node: Node, shapes: dict[str, Node], where: str) -> None:
    """Assert that a value is as documented: no field more, none less, each of its type."""
    if node.shape and value is not None:
        inner = shapes[node.shape]
        node = Node(inner.types | node.types - {"null"}, "", inner.keys | node.keys, inner.items)
    kinds = {bool: "truth", int: "whole", float: "number", str: "text", list: "list", dict: "object"}
    kind = "null" if value is None else kinds[type(value)]
    assert kind in node.types or (kind == "whole" and "number" in node.types), f"{where} is {kind}, not {node.types}"
    if kind == "list" and node.items is not None:
        for element in value:
            fits(element, node.items, shapes, f"{where}[]")
    if kind == "object" and node.keys:
        patterns = {k: re.compile(re.sub(r"\\\{[^}]*\\\}", ".+", re.escape(k))) for k in node.keys if "{" in k}
        for key, inner in value.items():
            match = key if key in node.keys else next((k for k, p in patterns.items() if p.fullmatch(key)), None)
            assert match is not None, f"{where}.{key} is not documented"
            fits(inner, node.keys[match], shapes, f"{where}.{key}")
        missing = [k for k in node.keys if k not in patterns and k not in value]
        assert not missing, f"{where} lacks {missing}, which are documented"


@pytest.fixture(scope="module")
def documents(tutorial: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What every verb but demo prints with --json, on the tutorial's data and run."""
    folder = tmp_path_factory.mktemp("json")
    shutil.copytree(tutorial, folder, dirs_exist_ok=True)
    (folder / "broken.png").write_bytes(b"")
    recipe = next("\n".join(b.lines) for b in blocks(DOCS / "how-to" / "studies.md") if b.language == "yaml")
    (folder / "own.yaml").write_text(recipe.replace("seeds: 2", "seeds: 1"), encoding="utf-8")
    train = "--pretrained none --size 64 --output-stride 8 --truncate --channels 1 --epochs 1"
    lines = {
        "info": "gyrus info",
        "data info": "gyrus data info phantom",
        "data phantom": "gyrus data phantom second --patients 8 --slices-per-plane 1 --size 64",
        "data convert": "gyrus data convert phantom --out converted",
        "data join": "gyrus data join phantom second --out joined",
        "audit": "gyrus audit phantom --out audited --skip disagreements",
        "split": "gyrus split phantom --out second.json",
        "split folds": "gyrus split phantom --out folds --folds 4",
        "train": f"gyrus train phantom --split second.json --out second-run {train}",
        "calibrate": "gyrus calibrate second-run --coverage 0.5",
        "predict": "gyrus predict --model second-run",
        "predict files": "gyrus predict broken.png --model second-run/model --keep-going",
        "explain": "gyrus explain --model second-run --methods cam,layercam",
        "leaderboard": "gyrus explain --leaderboard --model second-run --out board --methods cam,saliency --sample 2",
        "evaluate": "gyrus evaluate second-run",
        "stress": "gyrus stress second-run --sample 4",
        "report": "gyrus report second-run",
        "export": "gyrus export second-run --to onnx --out exported --check phantom",
        "study list": "gyrus study list",
        "study show": "gyrus study show own.yaml",
        "study run": "gyrus study run own.yaml --data phantom=phantom --out own",
    }
    printed = {}
    with contextlib.chdir(folder):
        for verb, words in lines.items():
            code, out, err = call(f"{words} --json")
            assert code == 0, f"{words}\n{err}"
            printed[verb] = json.loads(out)
    printed["folder"] = folder
    return printed


@pytest.mark.parametrize(
    ("verb", "heading"),
    [
        ("info", "gyrus info"), ("data info", "gyrus data info"), ("data phantom", "gyrus data info"),
        ("data convert", "gyrus data info"), ("data join", "gyrus data info"),
        ("audit", "gyrus audit"), ("split", "gyrus split"),
        ("split folds", "gyrus split"), ("train", "gyrus train"), ("leaderboard", "gyrus explain --leaderboard"),
        ("calibrate", "gyrus calibrate"), ("predict", "gyrus predict"), ("predict files", "gyrus predict"),
        ("explain", "gyrus explain"),
        ("evaluate", "gyrus evaluate"), ("report", "gyrus report"), ("study list", "gyrus study list"),
        ("export", "gyrus export"), ("stress", "gyrus stress"),
        ("study run", "gyrus study run"),
    ],
)  # fmt: skip
def test_a_verb_prints_the_documented_json(verb: str, heading: str, documents: dict[str, Any]) -> None:
    shapes = documented("json.md")
    fits(documents[verb], shapes[heading], shapes, verb)
    schema = re.search(
        rf"^## {heading}$.+?^\| `schema` \| text \| `(\S+)` \|",
        (DOCS / "reference" / "json.md").read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    assert schema is not None
    assert documents[verb]["schema"] == schema[1]


def test_the_json_check_finds_what_differs() -> None:
    shapes = {"interval": Node()}
    shapes["interval"].at("value").types.add("number")
    node = Node()
    node.at("rows[].{name}").shape = "interval"
    node.at("n").types.add("whole")
    fits({"rows": [{"a": {"value": 1.5}}], "n": 1}, node, shapes, "")
    for wrong in (
        {"rows": [], "n": 1.5},
        {"rows": []},
        {"rows": [], "n": 1, "more": 1},
        {"rows": [{"a": {}}], "n": 1},
        {"rows": [{"a": {"value": None}}], "n": 1},
    ):
        with pytest.raises(AssertionError):
            fits(wrong, node, shapes, "")


def test_the_documents_hold_what_they_are_documented_for(documents: dict[str, Any]) -> None:
    """Guards the fixture: a table checked against empty lists would be checked against nothing."""
    assert documents["predict files"]["rows"][0]["probabilities"] is None
    assert documents["predict files"]["calibrated"] is False
    assert documents["predict"]["calibrated"] is True
    assert documents["evaluate"]["certainty"]["sets"]["asked"] == 0.5
    assert len(documents["split folds"]["splits"]) == 4
    assert documents["evaluate"]["localization"]["rows"]
    assert documents["stress"]["inpainting"]
    assert {m["target"] for m in documents["explain"]["maps"]} == {"predicted", "true"}


def test_the_demo_prints_the_documented_fields() -> None:
    from gyrus import demo

    returned = [n.value for n in ast.walk(ast.parse(Path(demo.__file__).read_text())) if isinstance(n, ast.Return)]
    keys = next([k.value for k in v.keys] for v in returned if isinstance(v, ast.Dict))  # type: ignore[attr-defined]
    assert keys == list(documented("json.md")["gyrus demo"].keys)


def test_the_files_of_a_run_are_documented(tutorial: Path, documents: dict[str, Any]) -> None:
    page = (DOCS / "reference" / "files.md").read_text(encoding="utf-8")
    table = documented("files.md")["run.json"]
    only = {"seed": "train", "record_wise": "train", "data": "train", "preprocess": "predict"}
    for stage in ("train", "predict", "explain", "evaluate", "stress"):
        run = documents["folder"] / "second-run" if stage == "stress" else tutorial / "run"
        folder = run if stage == "train" else run / stage
        manifest = json.loads((folder / "run.json").read_text())
        here = {k: v for k, v in table.keys.items() if only.get(k, stage) == stage}
        fits(manifest, Node({"object"}, "", here), {}, stage)
        for file in manifest["outputs"]:
            assert file.split("/")[-1] in page, f"{stage} writes {file}"
    shapes = documented("json.md")
    recipe = json.loads((tutorial / "run" / "config.json").read_text()) | {"model_classes": ["a"]}
    fits(recipe, shapes["recipe"], shapes, "config.json")
    split = json.loads((tutorial / "split.json").read_text())
    assert split.pop("schema") == "gyrus.split/1"
    fits(split, shapes["split"], shapes, "split.json")
    scores = json.loads((documents["folder"] / "second-run" / "evaluate" / "scores.json").read_text())
    assert scores == documents["evaluate"]


def test_the_columns_of_the_tables_are_documented(tutorial: Path, documents: dict[str, Any]) -> None:
    def columns(path: Path) -> list[str]:
        with path.open(newline="", encoding="utf-8") as file:
            return next(csv.reader(file))

    classes = ["glioma", "meningioma", "no_tumor", "pituitary"]
    lead = ["file", "id", "patient", "label", "predicted"]
    assert columns(tutorial / "one.csv") == [*lead, *(f"p_{c}" for c in classes), "status", "reason"]
    first = ["id", "patient", "label", "tumour_share", "kind", "name", "layer", "target"]
    metrics = [m["name"] for m in gyrus.list_metrics("localization")]
    assert metrics[0] == "pointing"
    assert metrics[-1] == "auprc"
    assert columns(tutorial / "run" / "evaluate" / "localization.csv") == [*first, *metrics, "undefined"]
    written = [[*first[:3], "change", "strength", "predicted", "probability", "pointing", "iou", "note"]]
    assert [columns(p) for p in documents["folder"].glob("*/stress/slices.csv")] == written
    shapes = documented("json.md")
    with (tutorial / "run" / "epochs.csv").open(newline="", encoding="utf-8") as file:
        row = {k: float(v) for k, v in next(csv.DictReader(file)).items()}
    epochs = shapes["gyrus train"].keys["epochs"].items
    assert epochs is not None
    fits(row, epochs, shapes, "epochs.csv")


@pytest.fixture(scope="module")
def make_studies() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_studies", DOCS / "make_studies.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def test_the_page_of_studies_is_made_from_what_they_left_behind(make_studies: ModuleType) -> None:
    assert make_studies.PAGE.read_text(encoding="utf-8") == make_studies.page()
    for recipe in (find_study(value["name"]) for value in make_studies.kept()):  # in the words that it has now
        for words in (recipe.title, recipe.question, recipe.about, recipe.changed):
            assert words.strip() in make_studies.page()
    charts = {f"{value['name']}.svg" for value in make_studies.kept() if make_studies.claims_chart(value)}
    assert {path.name for path in make_studies.CHARTS.glob("*.svg")} == charts


def test_a_step_that_was_run_again_replaces_its_figures_alone(make_studies: ModuleType) -> None:
    before = next(value for value in make_studies.kept() if value["name"] == "cam-iou")
    told = {**before["trainings"]["alexnet-own"], "kind": "training", "seeds": 5, "minutes": 100.0}
    new = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 2451, "groups": 168}
    values = {"accuracy": new, "between_seeds": {**new, "value": 0.01}}
    one = {"name": "cam-iou", "scale": "desk", "step": "alexnet-own", "values": values, "facts": told}
    after = make_studies.renewed(before, one)
    row, *others = after["table"]
    assert row == {**before["table"][0], "own_value": new}
    assert others == before["table"][1:]
    assert after["trainings"]["alexnet-own"]["between_seeds"] == 0.01
    assert after["minutes"] == pytest.approx(before["minutes"] + 100 - before["trainings"]["alexnet-own"]["minutes"])
    assert {k: v for k, v in after["trainings"].items() if k != "alexnet-own"} == {
        k: v for k, v in before["trainings"].items() if k != "alexnet-own"
    }
    with pytest.raises(SystemExit, match="was run at scale quick, and the page shows desk"):
        make_studies.renewed(before, {**one, "scale": "quick"})

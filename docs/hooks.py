"""Fills the generated parts of the reference while MkDocs builds: the command line, and everything known by name.

A page asks for a part by a line ``<!-- generated: NAME -->``, NAME being a key of :data:`PARTS`.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any

MARK = re.compile(r"^<!-- generated: ([a-z]+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace each mark in a page; MkDocs calls this for every page."""
    return MARK.sub(lambda found: PARTS[found[1]](), markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Drop the Sphinx roles of docstrings (``:func:``), which Markdown does not know; the name itself stays."""
    return re.sub(r":(?:func|class|meth|data|mod):(?=<code>)", "", html)


def commands() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield the words and the function of every command, as ``("data info", data_info)``."""
    from gyrus.cli import app

    for command in app.registered_commands:
        yield _name(command), _function(command)
    for group in app.registered_groups:
        for command in group.typer_instance.registered_commands:
            words = (group.name, _name(command)) if isinstance(group.name, str) else (_name(command),)
            yield " ".join(words), _function(command)


def parameters(function: Callable[..., Any]) -> Iterator[tuple[list[str], str, Any, str]]:
    """Yield each parameter of a command: its names, its type, its default (``...`` where it must be given), its help.

    An argument has no option's name: the list holds its own in capitals.
    """
    from typer.models import OptionInfo

    hints = typing.get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        kind, said = typing.get_args(hints[name])
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        # Inside Annotated the first of an option's names stands where its default would.
        flags = [f for f in (said.default, *(said.param_decls or ())) if isinstance(f, str)]
        if not isinstance(said, OptionInfo):
            flags = [name.upper()]
        elif not flags:
            flag = name.replace("_", "-")
            flags = [f"--{flag}", f"--no-{flag}"] if kind is bool else [f"--{flag}"]
        yield flags, _kind(kind), default, said.help or ""


def command_line() -> str:
    """Return one section per command: usage, what it does, its parameters."""
    lines: list[str] = []
    for name, function in sorted(commands()):
        rows, usage = [], [f"gyrus {name}"]
        for flags, kind, default, text in parameters(function):
            argument = not flags[0].startswith("-")
            if argument:
                usage.append(f"[{flags[0]}]..." if kind.endswith("...") else flags[0])
            elif default is ...:
                usage.append(f"{flags[0]} {flags[0].lstrip('-').upper()}")
            rows.append((", ".join(f"`{f}`" for f in flags), kind, _default(default), text))
        lines += [
            f"## gyrus {name}",
            "",
            inspect.getdoc(function) or "",
            "",
            "```text",
            " ".join([*usage, "[OPTIONS]"]),
        ]
        lines += ["```", "", *_table(("", "type", "default", ""), rows), ""] if rows else ["```", ""]
    return "\n".join(lines)


def datasets() -> str:
    """Return one section per dataset: what it is, its licence, how to cite it, what is wrong with it."""
    lines: list[str] = []
    for d in _known()["datasets"]:
        lines += [f"### {d['name']}", "", f"{d['title']}.", ""]
        facts = {"Licence": d["licence"], "Cite": d["citation"], "Classes": ", ".join(d["classes"])}
        lines += [f"- **{k}:** {v}" for k, v in facts.items() if v]
        lines += [*(["- **Known faults:**"] if d["faults"] else []), *(f"    - {f}" for f in d["faults"]), ""]
    return "\n".join(lines)


def models() -> str:
    """Return the table of architectures."""
    rows = [
        (f"`{m['name']}`", m["paper"], m["parameters"], *("yes" if m[k] else "no" for k in ("dilates", "packaged")))
        for m in _known()["models"]
    ]
    return "\n".join(_table(("name", "paper", "million weights", "can be dilated", "weights as a package"), rows))


def methods() -> str:
    """Return the table of explanation methods."""
    rows = [
        (
            f"`{m['name']}`",
            m["title"],
            f"`{m['formula']}`",
            m["direction"],
            m["where"],
            m["cost"],
            ", ".join(f"{option} {value}" for option, value in m["options"].items()),
            m["paper"],
        )
        for m in _known()["methods"]
    ]
    head = ("name", "", "raw map", "a large value is", "defined on", "passes for a batch", "options", "paper")
    return "\n".join(_table(head, rows))


def baselines() -> str:
    """Return the table of maps without a network."""
    rows = [(f"`{b['name']}`", b["title"], "yes" if b["per_class"] else "no") for b in _known()["baselines"]]
    return "\n".join(_table(("name", "what", "is told the class"), rows))


def thresholds() -> str:
    """Return the table of thresholds."""
    rows = [
        (
            f"`{t['name']}`",
            t["title"],
            f"`{t['formula']}`",
            "" if t["default"] is None else f"{t['default']:g}",
            t["undefined"],
            t["paper"],
        )
        for t in _known()["thresholds"]
    ]
    return "\n".join(_table(("name", "", "kept pixels", "p by default", "degenerate maps", "paper"), rows))


def metrics() -> str:
    """Return one section per family of metrics, each with its table."""
    from gyrus.catalogue_tables import limits

    lines: list[str] = []
    for family in dict.fromkeys(m["family"] for m in _known()["metrics"]):
        rows = [
            (
                f"`{m['name']}`",
                m["title"],
                f"`{m['formula']}`",
                limits(m),
                m["better"],
                m["undefined"],
                m["paper"],
            )
            for m in _known()["metrics"]
            if m["family"] == family
        ]
        head = ("name", "", "formula", "range", "better", "degenerate maps", "paper")
        lines += [f"### {family.capitalize()}", "", *_table(head, rows), ""]
    return "\n".join(lines)


PARTS: dict[str, Callable[[], str]] = {
    "commands": command_line,
    "datasets": datasets,
    "models": models,
    "methods": methods,
    "baselines": baselines,
    "thresholds": thresholds,
    "metrics": metrics,
}


@cache
def _known() -> Mapping[str, Any]:
    import gyrus

    return gyrus.info()


def _name(command: Any) -> str:
    return str(command.name or command.callback.__name__)


def _function(command: Any) -> Callable[..., Any]:
    function: Callable[..., Any] = command.callback
    return function


def _kind(kind: Any) -> str:
    """Return a type as a user would call it."""
    inner = [a for a in typing.get_args(kind) if a is not type(None)]
    origin = typing.get_origin(kind)
    if origin is tuple:
        return " ".join(_kind(a) for a in inner)
    if origin is list:
        return f"{_kind(inner[0])}..."
    if inner:
        return _kind(inner[0])
    return {"Path": "path", "str": "text", "int": "whole number", "float": "number", "bool": "flag"}[kind.__name__]


def _default(value: Any) -> str:
    if value is ...:
        return "required"
    if value is None or value is False or value == "":
        return ""
    if value is True:
        return "on"
    return f"`{' '.join(map(str, value)) if isinstance(value, tuple) else value}`"


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> list[str]:
    head = tuple(head)
    cells = [[str(c).replace("|", "\\|") for c in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *cells]]

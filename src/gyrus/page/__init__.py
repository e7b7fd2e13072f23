"""What gyrus's HTML pages share: one file each that needs nothing else, no network and no font.

None has a script but the leaderboard, whose few lines sort its table and are named in its policy by their hash.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from gyrus._version import __version__
from gyrus.errors import InputError
from gyrus.page import words

_HERE = Path(__file__).parent


def render(template: Path, content: Mapping[str, Any]) -> str:
    """Return a page: the template, which extends ``page.html.j2``, filled with the content.

    Besides the content, templates know the filters of :mod:`gyrus.page.words`, and ``plural``.
    """
    environment = Environment(
        loader=ChoiceLoader([FileSystemLoader(template.parent), FileSystemLoader(_HERE)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {f.__name__: f for f in (words.number, words.span, words.percent, words.breakable)}
    environment.globals |= {
        "plural": words.plural,
        "version": __version__,
        "css": Markup((_HERE / "page.css").read_text(encoding="utf-8")),  # noqa: S704 - our own file
    }
    return environment.get_template(template.name).render(content).lstrip()


def write_page(target: Path, page: str) -> None:
    """Write a page so that it is there whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    aside = target.with_name(f".{target.name}.partial-{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(page, encoding="utf-8", errors="backslashreplace")  # a file name need not be UTF-8
        aside.rename(target)
    except OSError as error:
        raise InputError(f"{target} cannot be written ({error.strerror}): choose another --out") from None
    finally:
        aside.unlink(missing_ok=True)

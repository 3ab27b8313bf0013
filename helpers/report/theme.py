"""What every page shares: colours, templates, and the rule that it loads nothing and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
_NO_FORMS = "base-uri 'none'; form-action 'none'"
# JupyterLab has no page style around an output; its own colours keep text readable in its dark theme too.
_LAB = {"ink": "--jp-content-font-color1", "muted": "--jp-content-font-color2", "line": "--jp-border-color2"}


def asset(name: str) -> str:
    """Read a style or script that pages carry inside themselves."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


@cache
def colours() -> dict[str, str]:
    """Read the light colours by name.

    >>> colours()["paper"]
    '#ffffff'
    """
    return dict(re.findall(r"--([\w-]+): *(#\w+)", asset("light.css")))


def variable(name: str) -> str:
    """Write a colour as a CSS variable that also holds where no page defines it.

    >>> variable("good")
    'var(--good, #0a6640)'
    """
    colour = colours()[name]
    return f"var(--{name}, " + (f"var({_LAB[name]}, {colour}))" if name in _LAB else f"{colour})")


def standalone(css: str) -> str:
    """Give each colour variable of a style its fallback."""
    return re.sub(r"var\(--([\w-]+)\)", lambda match: variable(match[1]), css)


@cache
def environment() -> Environment:
    """Open the templates; everything they print is escaped unless it was marked as markup."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    env = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.globals.update(css=lambda name: Markup(asset(name)), standalone=lambda name: Markup(standalone(asset(name))))  # noqa: S704
    return env


def render(template: str, *, script: str, **context: object) -> str:
    """Fill a page's template; its policy allows that one script, by its hash, and no request at all."""
    from markupsafe import Markup

    source = asset("theme.js") + asset(script)
    digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; {_NO_FORMS}"
    return environment().get_template(template).render(policy=policy, script=Markup(source), **context)  # noqa: S704

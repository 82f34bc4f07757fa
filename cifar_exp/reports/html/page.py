"""A page made from a template: everything that it needs is in its own text (see the package's docstring)."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cifar_exp import __version__
from cifar_exp.reports.html import formats
from cifar_exp.reports.html.charts import Chart
from cifar_exp.reports.html.embed import json_text
from cifar_exp.reports.html.table import Table

_SCRIPTS = ("base.js", "options.js", "charts.js", "table.js")


def render(
    template: str,
    *,
    title: str,
    charts: Mapping[str, Chart] | None = None,
    tables: Mapping[str, Table] | None = None,
    data: Mapping[str, Any] | None = None,
    scripts: Sequence[str] = (),
    styles: Sequence[str] = (),
    refresh_seconds: int | None = None,
    **context: Any,
) -> str:
    """The page as text.

    Args:
        template: name of a file in ``templates/``.
        title: of the page; any text.
        charts: by the name that the template places them under.
        tables: likewise.
        data: for the page's scripts.
        scripts: names of files in ``templates/``, run in this order after the shared ones.
        styles: names of style sheets there, after the shared one.
        refresh_seconds: after how long the page loads itself again; None for a page that will not change.
        context: the template's own variables. Text in them is escaped.
    """
    charts, tables = charts or {}, tables or {}
    texts = [Markup(_text("vendor/echarts.min.js"))] if charts else []
    texts += [Markup(_text(f"templates/{name}")) for name in (*_SCRIPTS, *scripts)]
    embedded = {
        "charts": {name: chart.as_data() for name, chart in charts.items()},
        "tables": {name: table.as_data() for name, table in tables.items()},
        "data": dict(data or {}),
    }
    html = (
        _environment()
        .get_template(template)
        .render(
            title=title,
            charts=charts,
            tables=tables,
            embedded=json_text(embedded),
            scripts=texts,
            style=Markup("\n".join(_text(f"templates/{name}") for name in ("base.css", *styles))),
            # Only these very scripts may run, and nothing may be loaded from anywhere.
            allowed_scripts=" ".join(f"'sha256-{_digest(text)}'" for text in texts),
            refresh_seconds=refresh_seconds,
            version=__version__,
            **context,
        )
    )
    # File names on Linux can hold bytes that are no text.
    return html.encode("utf-8", "replace").decode()


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("cifar_exp.reports.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= formats.FILTERS
    return environment


@cache
def _text(name: str) -> str:
    text = resources.files("cifar_exp.reports.html").joinpath(name).read_text(encoding="utf-8")
    assert "</script" not in text.lower()
    return text


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

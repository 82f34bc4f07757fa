"""A page made from a template, with all that it needs in its own text (see the package's docstring)."""

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
from cifar_exp.reports.html.embed import image_uri, json_text
from cifar_exp.reports.html.parts import Chart, Table

_SCRIPTS = ("base.js", "options.js", "charts.js", "table.js")


def render(
    template: str,
    *,
    title: str,
    charts: Mapping[str, Chart | None],
    tables: Mapping[str, Table | None],
    data: Mapping[str, Any],
    scripts: Sequence[str] = (),
    **context: Any,
) -> str:
    """The page as text.

    Args:
        template: name of the template and the style sheet in ``templates/``, without their suffixes.
        title: the page's title; any text.
        charts: by the name under which the template places them; None is left out.
        tables: the same.
        data: values for the page's scripts.
        scripts: names of files in ``templates/``, run in this order after the shared ones.
        context: the template's own variables. Text in them is escaped.
    """
    charts = {name: chart for name, chart in charts.items() if chart}
    tables = {name: table for name, table in tables.items() if table}
    texts = [Markup(_text("vendor/echarts.min.js"))] if charts else []
    texts += [Markup(_text(f"templates/{script}")) for script in (*_SCRIPTS, *scripts)]
    html = _environment().get_template(f"{template}.html").render(
        title=title,
        charts=charts,
        tables=tables,
        embedded=json_text({"charts": charts, "tables": tables, "data": data}),
        scripts=texts,
        style=Markup(_text("templates/base.css") + _text(f"templates/{template}.css")),
        # Only these scripts may run, and nothing may be loaded.
        allowed_scripts=" ".join(f"'sha256-{_digest(text)}'" for text in texts),
        version=__version__,
        **context,
    )  # fmt: skip
    # File names on Linux can contain bytes that are not text.
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
    environment.filters |= formats.FILTERS | {"image_uri": image_uri}
    return environment


@cache
def _text(name: str) -> str:
    text = resources.files("cifar_exp.reports.html").joinpath(name).read_text(encoding="utf-8")
    assert "</script" not in text.lower()
    return text


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

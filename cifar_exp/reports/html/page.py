"""A page made from a template, with all that it needs in its own text (see the package's docstring)."""

import base64
import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from cifar_exp import __version__
from cifar_exp.reports.html import formats
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


def json_text(value: Any) -> Markup:
    r"""A value as JSON that is safe in a ``<script type="application/json">`` element, whatever text it contains.

    ``<``, ``>``, ``&`` and ``'`` become ``\uXXXX``, so that no text can end the element or start a comment in it.
    Values of NumPy become plain ones; NaN and infinity become null.
    """
    return htmlsafe_json_dumps(as_json_types(value), allow_nan=False, separators=(",", ":"))


def as_json_types(value: Any) -> Any:
    """``value`` with plain Python containers and numbers only, and None for numbers that are not finite."""
    if type(value) in (str, int, bool) or value is None:  # nearly every cell of a table
        return value
    if is_dataclass(value):
        value = vars(value)
    if isinstance(value, Mapping):
        return {str(key): as_json_types(one) for key, one in value.items()}
    if isinstance(value, np.ndarray):
        return as_json_types(value.tolist())
    if isinstance(value, list | tuple):
        return [as_json_types(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


def image_uri(image: NDArray[np.uint8], palette: NDArray[np.uint8] | None = None) -> str:
    """An image (H, W) or (H, W, 1 or 3) as a ``data:`` URI; ``palette`` (256, 3) colours the values of a gray one."""
    pixels = image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image
    drawn = Image.fromarray(np.ascontiguousarray(pixels))
    if palette is not None:
        drawn = drawn.convert("L")
        drawn.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    drawn.save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"

"""Values and images embedded in the text of a page."""

import base64
import io
import math
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

import numpy as np
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image


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

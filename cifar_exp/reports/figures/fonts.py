"""Fonts for text in any script: names of classes may be Chinese, Thai or Arabic."""

import contextlib
import logging
from functools import cache

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

log = logging.getLogger(__name__)

_DEFAULT = "DejaVu Sans"  # comes with Matplotlib


def choose_fonts(figure: Figure) -> None:
    """Give every text of a figure an installed font for each of its letters; log which letters have none."""
    texts = [text for text in figure.findobj(Text) if not text.get_text().isascii()]
    letters = frozenset(
        letter for text in texts for letter in text.get_text() if letter.isprintable() and letter != " "
    )
    if letters and (families := _families(letters)):
        for text in texts:
            text.set_fontfamily([_DEFAULT, *families])


@cache
def _families(letters: frozenset[str]) -> tuple[str, ...]:
    """Installed families that together have the letters that the default font lacks; logs the other letters."""
    missing = _missing_from(font_manager.findfont(_DEFAULT), letters)
    if missing:
        _add_new_fonts()
    families: list[str] = []
    fonts = [font for font in font_manager.fontManager.ttflist if "Last Resort" not in font.name]
    fonts.sort(key=lambda font: ("Sans" not in font.name, font.style != "normal", font.weight != 400, font.name))
    for font in fonts:
        if missing and (found := missing - _missing_from(font.fname, missing)):
            families.append(font.name)
            missing -= found
    if missing:
        log.warning(
            "No installed font has %s: figures show boxes instead. Install a font that has them (Debian, Ubuntu: "
            "apt-get install fonts-noto-cjk fonts-noto-core fonts-symbola).",
            "".join(sorted(missing)[:20]),
        )
    return tuple(families)


def _missing_from(path: str, letters: frozenset[str]) -> frozenset[str]:
    try:
        font = FT2Font(path)
        return frozenset(letter for letter in letters if not font.get_char_index(ord(letter)))
    except (OSError, RuntimeError, ValueError):  # gone, or no font that FreeType reads
        return letters


def _add_new_fonts() -> None:
    """Add fonts that were installed after Matplotlib listed them in its cache."""
    known = {font.fname for font in font_manager.fontManager.ttflist}
    for path in font_manager.findSystemFonts():
        if path not in known:
            with contextlib.suppress(Exception):  # whatever a damaged font makes Matplotlib raise
                font_manager.fontManager.addfont(path)

"""Pages in a browser that must keep quiet: no error, no dialog, nothing loaded."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@contextmanager
def quiet_pages(browser: Any) -> Iterator[Callable[..., Any]]:
    """A function that opens a page; at the end there must have been no error, and no request beyond the file itself."""
    troubles: list[str] = []
    contexts = []

    def open_page(path: Path, viewport: dict[str, int] = WIDE, **options: Any) -> Any:
        context = browser.new_context(viewport=viewport, offline=True, **options)
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(10_000)
        url = path.as_uri()
        tab.on("console", lambda message: troubles.append(f"{message.type}: {message.text}"))
        tab.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        tab.on("dialog", lambda dialog: troubles.append(f"dialog: {dialog.message}"))
        tab.on("request", lambda request: _is_own(request.url, url) or troubles.append(f"request: {request.url}"))
        tab.goto(url)
        return tab

    try:
        yield open_page
    finally:
        for context in contexts:
            context.close()
    assert troubles == []


def printed(tab: Any, paper: int) -> None:
    """Lay a page out as for printing on paper with so many CSS pixels between its margins."""
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    tab.emulate_media(media="print")
    tab.set_viewport_size({"width": paper, "height": 1000})


def beyond_the_edge(tab: Any) -> list[str]:
    """Elements of the page that reach past its left or right edge."""
    found: list[str] = tab.evaluate("""() => {
        const width = document.documentElement.clientWidth, hidden = ".hidden-text, .skip";
        const out = [...document.querySelectorAll("body *")].filter((one) => {
            const { left, right, width: own } = one.getBoundingClientRect();
            return own > 0 && (left < -1 || right > width + 1) && !one.closest(hidden);
        });
        return out.map((one) => `${one.tagName} ${one.id} ${one.textContent.slice(0, 40)}`);
    }""")
    return found


def _is_own(requested: str, url: str) -> bool:
    return requested == "data:," or requested.startswith("data:image/") or requested.partition("#")[0] == url

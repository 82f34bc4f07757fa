"""Hydra's command-line parser under Python 3.14.

Hydra 1.3 gives one of its options a help that becomes text only when it is shown. Python 3.14 looks into every help as
soon as the option is added, and raises (facebookresearch/hydra#3121).
"""

import argparse
from typing import Any


def make_parsable() -> None:
    """Have argparse look only into a help that is text. Hydra shows its help by means of its own, so nothing is lost.

    Does nothing where argparse does not look (before Python 3.14). Calling it again is harmless.
    """
    check = getattr(argparse.ArgumentParser, "_check_help", None)
    if check is None or getattr(check, "only_text", False):
        return

    def check_text(parser: argparse.ArgumentParser, action: argparse.Action) -> Any:
        return check(parser, action) if isinstance(action.help, str) else None

    check_text.only_text = True  # type: ignore[attr-defined]
    argparse.ArgumentParser._check_help = check_text  # type: ignore[attr-defined]

"""The entry point of ``cifar-exp`` and of ``python -m cifar_exp``.

Ctrl-C during the program's imports ends it without a traceback; so nothing is imported before that is arranged.
"""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # the current folder, which `python -m` puts there

import os
import signal


def main() -> int:
    """Run the command line; returns the exit code."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as under nohup
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from cifar_exp.cli.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())

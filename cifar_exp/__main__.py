"""``python -m cifar_exp`` is the same program as the command ``cifar-exp``."""

import sys

if not sys.flags.safe_path:
    del sys.path[0]  # the current folder, which `python -m` puts there

from cifar_exp.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

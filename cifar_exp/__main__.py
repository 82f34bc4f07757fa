"""``python -m cifar_exp`` is the same program as the command ``cifar-exp``."""

import sys

from cifar_exp.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

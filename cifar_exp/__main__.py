"""``python -m cifar_exp`` is the same program as the command ``cifar-exp``."""

import sys

from cifar_exp.cli import main

if __name__ == "__main__":
    sys.exit(main())

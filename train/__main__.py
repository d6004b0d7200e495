"""``python -m fp_potential.train train.yaml ...`` is ``fixedpoint train train.yaml ...``, for ``torchrun -m``."""

import sys

from fp_potential.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))

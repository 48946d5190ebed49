"""``python -m ganscale``, which is what ``accelerate launch -m ganscale`` runs."""

import sys

from ganscale.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""``python -m blis_sim`` is the command ``blis``."""

from __future__ import annotations

import sys

from blis_sim.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

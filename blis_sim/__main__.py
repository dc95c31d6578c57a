"""The command ``blis``, and ``python -m blis_sim``."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line of this process and return its exit code, also while it loads."""
    try:
        from blis_sim.cli.main import main as run

        return run()
    except KeyboardInterrupt:
        return 130  # as where a command is interrupted


if __name__ == "__main__":
    sys.exit(main())

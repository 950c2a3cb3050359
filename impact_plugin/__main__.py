"""`python -m impact_plugin` is `impact`."""

from __future__ import annotations

from impact_plugin.cli.app import main

if __name__ == "__main__":
    main()

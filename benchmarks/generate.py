"""Seconds to the first preview and to the take: `python -m benchmarks.generate [--model BUNDLE] [--repeats N]`.

The same as `impact bench --json`, for whoever works in a checkout.
"""

from __future__ import annotations

import sys

from impact_plugin.cli.app import app

if __name__ == "__main__":
    app(["bench", "--json", *sys.argv[1:]], prog_name="impact")

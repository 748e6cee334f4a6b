"""`python -m cpc.controller`."""

from __future__ import annotations

from cpc.controller.main import main

if __name__ == "__main__":
    main()

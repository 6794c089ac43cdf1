"""The process that delivers letters."""

from __future__ import annotations

import sys

from .send import main

sys.exit(main())

"""SHA-256 without OpenSSL: 4 MB and 10 ms that `hashlib` costs every process, and short texts do not need.

The interpreter's own implementation is the one that `hashlib` itself falls back to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import sha256
else:
    try:
        from _sha2 import sha256  # 3.12 and later
    except ImportError:
        try:
            from _sha256 import sha256  # 3.11
        except ImportError:  # an interpreter that was built without it
            from hashlib import sha256

__all__ = ["sha256"]

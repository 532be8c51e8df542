"""The checkers of notebooks, which MONAI loads as well, without a grammar of addresses that takes two seconds to build.

Loads nothing of taco: the server that chapters are forked from imports this.
"""
import sys

if "jsonschema" not in sys.modules:
    sys.modules["rfc3987_syntax"] = None
    import jsonschema  # noqa: F401
    del sys.modules["rfc3987_syntax"]

"Flip one bit of a file, or cut it, and say whether anybody noticed."

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from taco.base import TacoError

FEW, MANY = 8, 60  # of each kind, in the quick tests and in the long ones


def damages(data: bytes, count: int, seed: int = 0):
    "(what, damaged bytes): `count` flips of a bit anywhere, as many in the first 128 bytes, as many cuts."
    rng = np.random.default_rng(seed)
    for kind, end in (("flip", len(data)), ("head", min(128, len(data)))):
        for at in rng.integers(0, end, count):
            spoilt = bytearray(data)
            spoilt[at] ^= 1 << rng.integers(0, 8)
            yield f"{kind} at {at}", bytes(spoilt)
    for at in rng.integers(0, len(data), count):
        yield f"cut at {at}", data[:at]


def unnoticed(file: Path, read: Callable[[], object], same: Callable[[object], bool], count: int, seed: int = 0):
    """What was silent, what was no `TacoError` or did not name a file, and how often what happened.

    `read` reads everything, `same` says whether it is as before.
    """
    whole, silent, odd, counts = file.read_bytes(), [], [], Counter()
    for what, spoilt in damages(whole, count, seed):
        file.write_bytes(spoilt)
        try:
            good = same(read())
            counts["harmless" if good else "silent"] += 1
            if not good:
                silent.append(what)
        except TacoError as error:
            counts["refused"] += 1
            if str(error.file or "") not in (str(file), str(file.parent)) or not error.fix:
                odd.append(f"{what}: {error}")
        except Exception as error:
            counts["raw"] += 1
            odd.append(f"{what}: {type(error).__name__}: {error}")
    file.write_bytes(whole)
    return silent, odd, counts

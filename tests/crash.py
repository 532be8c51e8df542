"SIGKILL just before each file operation of some work, or a disk that is full then, in a process forked for it."

import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def changes(event: str, arguments: tuple, root: Path) -> bool:
    "Whether an audit event is a change of the files below `root`."
    if event == "open":
        path, _, flags = arguments
        known = isinstance(path, (str, bytes, os.PathLike))
        return known and bool((flags or 0) & WRITING) and os.fsdecode(path).startswith(str(root))
    if event not in CHANGES:
        return False
    # names without a folder are those of shutil.rmtree, which looks at them through a descriptor
    return any(str(root) in str(a) for a in arguments) or "/" not in str(arguments[0])


def killed_before(number: int, work: Callable[[], object], root: Path) -> bool:
    "Do some work in a process that is killed before its change `number` (from 1); False when it ended before that."
    sys.stdout.flush()
    child = os.fork()
    if not child:
        try:
            count = 0

            def kill(event: str, arguments: tuple) -> None:
                nonlocal count
                if not changes(event, arguments, root):
                    return
                count += 1
                if count == number:
                    os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(kill)
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(3)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), f"the work itself failed: {status}"
    return status != 0


def crash_points(
    work: Callable[[], object], root: Path, prepare: Callable[[], object], every: int = 1
) -> Iterator[int]:
    "Kill at one point after the other, each time after `prepare`; each point is given while its mess lies there."
    number = 1
    while True:
        prepare()
        if not killed_before(number, work, root):
            break
        yield number
        number += every
    assert number > 1, "no point was met"


def rests(folder: Path) -> list[str]:
    "What is hidden below a folder, but for locks."
    found = (p.relative_to(folder).as_posix() for p in folder.rglob(".*"))
    return sorted(name for name in found if not name.endswith((".lock", "/lock")))


def content(folder: Path) -> dict[str, bytes]:
    "Every file below a folder, by name."
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def full_before(number: int, work: Callable[[], object], root: Path) -> type | None:
    """Do some work in a process whose disk is full from its `number`-th new file or folder below `root` on.

    Returns what the work raised: `TacoError` or another exception; None when it ended before that.
    """
    from taco.base import TacoError

    sys.stdout.flush()
    child = os.fork()
    if not child:
        count = 0

        def fill(event: str, arguments: tuple) -> None:
            nonlocal count
            if event not in ("open", "os.mkdir") or not changes(event, arguments, root):
                return
            count += 1
            if count >= number:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]))

        sys.addaudithook(fill)
        status = 3
        try:
            work()
            status = 0
        except TacoError as error:
            status = 2 if "disk is full" in str(error) and error.fix else 3
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return {0: None, 2: TacoError}.get(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), Exception)

"""A disk that can do little: no locks, no exchange of names, no links, no rename into another folder's place.

What object stores and network disks offer when they are mounted. The library below says so to every process that is
started with it; a store is packed and an experiment run there, killed, and run again.
"""
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from taco.data.collection import contents
from taco.data.pack import pack
from taco.data.store import read_manifest
from taco.workflow.seal import faults, read_done
from tests.crash import rests

LESS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int here(const char *path) {
    char full[PATH_MAX];
    const char *place = getenv("PLAIN_DISK");
    return place && (path[0] == '/' ? strncmp(path, place, strlen(place)) == 0
                                    : realpath(path, full) && strncmp(full, place, strlen(place)) == 0);
}
static int none(int number) { errno = number; return -1; }

int flock(int file, int what) { return none(ENOLCK); }
int link(const char *a, const char *b) { return none(EPERM); }
int symlink(const char *a, const char *b) { return here(b) ? none(EPERM) : 0; }
int renameat2(int x, const char *a, int y, const char *b, unsigned how) { return none(EINVAL); }

/* a folder takes no other's place, not even an empty one's; and none is moved from one store to another */
int rename(const char *a, const char *b) {
    struct stat about;
    int (*known)(const char *, const char *) = dlsym(RTLD_NEXT, "rename");
    if (here(a) != here(b)) return none(EXDEV);
    if (here(b) && stat(a, &about) == 0 && S_ISDIR(about.st_mode) && stat(b, &about) == 0) return none(ENOTEMPTY);
    return known(a, b);
}
"""


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> dict[str, str]:
    "The environment of a process for which the folder PLAIN_DISK lies on such a disk."
    folder = tmp_path_factory.mktemp("plain")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not sys.platform.startswith("linux") or not compiler: pytest.skip("this needs Linux and a C compiler")
    (folder / "less.c").write_text(LESS)
    words = [compiler, "-shared", "-fPIC", "-w", "-o", folder / "less.so", folder / "less.c", "-ldl"]
    subprocess.run(words, check=True)
    (folder / "disk").mkdir()
    return os.environ | dict(LD_PRELOAD=f"{folder}/less.so", PLAIN_DISK=f"{folder}/disk")


def python(plain, code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], env=plain, capture_output=True, text=True, timeout=300)


def test_the_disk_is_plain_and_ours_is_not(plain, tmp_path):
    code = """
import fcntl, os
from pathlib import Path
from taco.disk import exchange
place = Path(os.environ["PLAIN_DISK"])
for name in "ab": (place / name).mkdir()
assert not exchange(place / "a", place / "b")
for broken in (
    lambda: fcntl.flock(os.open(place, os.O_RDONLY), fcntl.LOCK_EX), lambda: os.rename(place / "a", "/tmp/a"),
    lambda: os.link(place / "a", place / "c"), lambda: os.rename(place / "a", place / "b"),
):
    try: broken()
    except OSError: continue
    raise SystemExit("this disk can do too much")
for name in "ab": (place / name).rmdir()
"""
    done = python(plain, code)
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_a_store_packed_there_is_the_one_packed_here(plain, tmp_path):
    place = plain["PLAIN_DISK"]
    code = "import sys; from taco.data.pack import pack; pack('busi', out=sys.argv[1], size=32, subjects={})"
    for subjects in (4, 6):  # the second is another one under the name of the first
        words = [sys.executable, "-c", code.format(subjects), f"{place}/packed"]
        done = subprocess.run(words, env=plain, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    here = pack("busi", out=tmp_path, size=32, subjects=6)
    there = f"{place}/packed/{here.name}"
    assert contents(read_manifest(there)) == contents(read_manifest(here))
    assert not [name for name in os.listdir(f"{place}/packed") if name.startswith(".")]


@pytest.mark.long
def test_an_experiment_runs_there_is_killed_and_runs_again(plain, root):
    place = plain["PLAIN_DISK"]
    call = [sys.executable, "-c", "from taco.cli.main import main; main()", "run"]
    packed = [*call, "pack", "-p", f"folder={place}/pack", "-p", "datasets=[drive, busi]"]
    trained = [*call, "train", "-p", f"folder={place}/train", "-p", f"pack_run={place}/pack", "-p", "steps=4000"]
    done = subprocess.run(packed, env=plain, cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    for number in (signal.SIGTERM, signal.SIGKILL):
        going = subprocess.Popen(trained, env=plain, cwd=root, stdout=subprocess.PIPE, text=True)
        until, begun = time.monotonic() + 120, False
        while time.monotonic() < until and not begun: begun = "step " in (going.stdout.readline() or "step ")
        going.send_signal(number)
        going.communicate(timeout=120)
        assert going.returncode and not os.path.exists(f"{place}/train/done.json")
    trained[-1] = "steps=3"
    done = subprocess.run(trained, env=plain, cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = Path(place, "train")
    assert not faults(folder, read_done(folder, "")) and not rests(folder)

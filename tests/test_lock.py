"One run, one folder: who holds it is named, a killed holder holds nothing, and nothing is left behind."
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from taco.base import TacoError
from taco.lock import LEADER, born, holder, lives, take

HOLD = """import sys, time
from taco.lock import take
lock = take(sys.argv[1])
print('held', flush=True)
time.sleep(60)"""
CHILD = """import os, time
from taco.lock import end_with_parent
end_with_parent(os.getppid(), BY_SYSTEM)
print(os.getpid(), flush=True)
time.sleep(60)"""


def start(code: str, *words: str, **env: str) -> subprocess.Popen:
    call = [sys.executable, "-c", code, *words]
    return subprocess.Popen(call, stdout=subprocess.PIPE, text=True, env={**os.environ, **env})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_holder_is_named_and_what_it_held_is_free_when_it_ends(tmp_path, number):
    other = start(HOLD, str(tmp_path))
    assert other.stdout.readline() == "held\n"
    assert holder(tmp_path)["pid"] == other.pid
    with pytest.raises(TacoError, match=f"process {other.pid} on .* since 20(.|\n)*kill {other.pid}"): take(tmp_path)
    other.send_signal(number)
    other.wait()
    assert holder(tmp_path) is None
    with take(tmp_path): assert holder(tmp_path)["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_waiting_says_for_whom(tmp_path):
    other, said = start(HOLD.replace("60", "1"), str(tmp_path)), []
    other.stdout.readline()
    with take(tmp_path, wait=30, say=said.append): pass
    assert len(said) == 1 and str(other.pid) in said[0]
    other.wait()


def test_ones_own_lock_may_be_taken_again(tmp_path):
    with take(tmp_path) as first:
        with take(tmp_path) as again: assert again.descriptor is None and first.descriptor is not None
        assert holder(tmp_path)["pid"] == os.getpid()


def test_many_at_once_never_hold_together(tmp_path):
    code = """if True:
        import sys, os, time
        from taco.lock import take
        for _ in range(40):
            with take(sys.argv[1], wait=60):
                open(sys.argv[1] + "/busy", "x").close()  # fails when somebody else is inside
                time.sleep(.001)
                os.unlink(sys.argv[1] + "/busy")
    """
    running = [start(code, str(tmp_path)) for _ in range(3)]
    assert [p.wait(120) for p in running] == [0, 0, 0] and list(tmp_path.iterdir()) == []


def test_damaged_locks_are_no_obstacle(tmp_path):
    (tmp_path / ".lock").write_bytes(b"\xff{")
    assert holder(tmp_path) is None
    with take(tmp_path): pass


def test_what_follows_a_leader_ends_with_it():
    leader = subprocess.Popen(["sleep", "60"])
    code = "import time\nfrom taco.lock import follow_leader\nfollow_leader(.05)\nprint(1, flush=True)\ntime.sleep(60)"
    follower = start(code, **{LEADER: f"{leader.pid}:{born(leader.pid)}"})
    follower.stdout.readline()
    leader.kill()
    leader.wait()
    assert follower.wait(10) == -signal.SIGTERM


def test_a_process_id_that_is_used_again_is_another_process():
    assert lives(os.getpid(), born(os.getpid())) and lives(os.getpid(), "") and not lives(os.getpid(), "1")


@pytest.mark.parametrize("by_system", [True, False])
def test_a_child_ends_with_its_parent(by_system):
    code = CHILD.replace("BY_SYSTEM", str(by_system))
    parent = start(f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {code!r}])")
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    until = time.monotonic() + 5
    while lives(pid, "") and time.monotonic() < until: time.sleep(.02)
    alive = lives(pid, "") and "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    assert not alive


def test_a_kernel_that_is_ending_is_not_disturbed_by_a_second_signal(root):
    code = """import atexit, os, signal
from taco.lock import end_by_signal
end_by_signal()
atexit.register(os.kill, os.getpid(), signal.SIGTERM)
os.kill(os.getpid(), signal.SIGTERM)
print("not reached")"""
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "")

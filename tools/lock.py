"""Write requirements.lock: one set of versions that works, resolved from the ranges in settings.ini.

A throw-away environment is made with the running Python; what pip chose there is the lock. torch's local version
(+cpu, +cu…) is dropped, so that each machine takes its own build of the same release.
"""
import re
import subprocess
import sys
import tempfile
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEAD = """# One set of versions that works, for Python 3.11 and 3.12; written by `make lock`, used by `make env`.
# The library's own ranges are in settings.ini.
"""
# What torch's CUDA builds bring along belongs to the machine, not to the lock.
MACHINE = re.compile(r"^(nvidia-|triton|cuda-)", re.I)
TORCH = "torch==2.13.0"


def main() -> None:
    settings = ConfigParser(delimiters=["="])
    settings.read(ROOT / "settings.ini", encoding="utf-8")
    wanted = (settings["DEFAULT"]["requirements"] + " " + settings["DEFAULT"]["dev_requirements"]).split()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = f"{folder}/bin/python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", TORCH, *wanted], check=True)
        subprocess.run([python, "-m", "pip", "check"], check=True)
        frozen = subprocess.run([python, "-m", "pip", "freeze"], check=True, capture_output=True, text=True).stdout
    pins = [re.sub(r"\+[\w.]+$", "", line) for line in frozen.splitlines() if "==" in line and not MACHINE.match(line)]
    (ROOT / "requirements.lock").write_text(HEAD + "\n".join(sorted(pins, key=str.lower)) + "\n", encoding="utf-8")
    print(f"requirements.lock: {len(pins)} packages")


if __name__ == "__main__":
    main()

"""Run the benchmark sections, print their tables, write `benchmarks/latest.json`.

    python -m benchmarks.bench              all sections
    python -m benchmarks.bench tasks        one of them

A section is a module beside this one with `run() -> dict` and `show(dict) -> rich.table.Table`; add its
name to SECTIONS.
"""

import importlib
import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import torch
from rich.console import Console

from taco.base import ParameterError, atomic, keep_memory, limit_threads, suggest

SECTIONS = (
    "tasks",
    "loop",
    "data",
)  # batched tasks against image by image; the training loop against a fixed tensor; packing, reading, memory
LATEST = Path(__file__).parent / "latest.json"
PACKAGES = ("taco", "torch", "monai", "scikit-image", "scipy", "numpy", "lightning")


def provenance() -> dict:
    "What a number depends on besides the code; no dates and no paths, so that equal runs give equal files."
    return dict(
        python=platform.python_version(),
        machine=platform.machine(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        versions={p: version(p) for p in PACKAGES},
    )


def write(results: dict, path: Path = LATEST) -> dict:
    "Replace the measured sections in the file and keep the others, each with its own provenance; what was written."
    kept = json.loads(path.read_text()) if path.is_file() else {}
    kept |= {name: result | dict(provenance=provenance()) for name, result in results.items()}
    with atomic(path) as spare:
        spare.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    return kept


def main(names: list[str]) -> dict:
    console, results = Console(), {}
    if not console.is_terminal:
        console.width = 120
    keep_memory()
    for name in names:
        if name not in SECTIONS:
            raise ParameterError(
                "No benchmark section has this name.",
                field="section",
                found=name,
                fix=suggest(name, SECTIONS),
            )
    for name in names or SECTIONS:
        if not (Path(__file__).parent / f"{name}.py").is_file():
            console.print(f"[yellow]{name}: not written yet, skipped[/yellow]")
            continue
        section = importlib.import_module(f"{__package__}.{name}")
        limit_threads(getattr(section, "THREADS", None))
        console.print(f"[bold]{name}[/bold]: {(section.__doc__ or '').strip().splitlines()[0]}")
        results[name] = section.run()
        console.print(section.show(results[name]))
        write({name: results[name]})
    return results


if __name__ == "__main__":
    main(sys.argv[1:])

"""Pack one dataset of a step that packs many: python -m tools.pack_one DATASET PARAMETERS MARK [--threads N].

On many machines each dataset is a job of its own. It leaves its store where the step will look for it, and the step
finds it fresh. DATASET is a name in `datasets`, or of a card in the folder `data`; PARAMETERS are those of the step, as
JSON; MARK is the file that says when it is done. The store is the one that the step alone would have made.
"""
import argparse
import json
import sys
from pathlib import Path

from taco.base import DataError, refusing, suggest, write_json
from taco.cli.ending import speak_plainly, status_of
from taco.lock import follow_leader
from taco.workflow.parameters import check_parameters, declared_parameters, project_root


def whole(given: dict) -> dict:
    "Parameters of a step that packs, with the defaults of its notebook. Raises `ParameterError`."
    declared = declared_parameters("pack")
    check_parameters(declared, given, "pack")
    return {name: parameter.default for name, parameter in declared.items()} | given


def collected(given: dict):
    "The datasets of the folder `data`."
    from taco.data.collection import find_datasets  # the Snakefile asks for names alone, and waits for torch else
    cards = given["cards"] and project_root() / given["cards"]
    return find_datasets(project_root() / given["data"], cards)


def names_of(given: dict) -> list[str]:
    "The datasets that a step with these parameters may pack."
    given = whole(given)
    return [card.name for card, _ in collected(given).found] if given["data"] else given["datasets"]


def pack_one(name: str, given: dict, workers: int = 1) -> dict:
    """Pack the dataset `name` of a step; what is to be told of it: the folder, or why there is none.

    One of `data` that takes no part is left alone, and one that cannot be read is no error here: the step says so.
    Raises `DataError` for a name that the step does not have, and what `taco.pack` raises.
    """
    from taco.data.card import data_folder
    from taco.data.collection import divide_datasets, pack_datasets
    from taco.data.pack import pack
    if name not in (known := names_of(given)):
        refusing(DataError)("The step packs no such dataset.", "dataset", name, fix=suggest(name, known))
    given = whole(given)
    out = project_root() / given["folder"] / "stores"
    how = dict(size=given["size"], subjects=given["subjects"], seed=given["seed"], workers=workers)
    if not given["data"]:
        root = data_folder(given["root"])
        return dict(folder=pack(name, root, out, source=given["source"], skip_bad=given["skip_bad"], **how).name)
    found = collected(given).found
    parts = divide_datasets(found, given["held_out"])
    if parts[name] != given["part"]: return dict(left=parts[name])
    mine = [(card, folder) for card, folder in found if card.name == name]
    folders, failed = pack_datasets(mine, out, source="real", **how)
    return dict(folder=folders[0].name) if folders else dict(failed=failed[name])


def main(words: list[str]) -> None:
    "Pack one, and leave the mark."
    parser = argparse.ArgumentParser(prog="python -m tools.pack_one", description=__doc__.partition("\n")[0])
    for word in ("dataset", "parameters", "mark"): parser.add_argument(word)
    parser.add_argument("--threads", type=int, default=1)
    told = parser.parse_args(words)
    follow_leader()
    about = pack_one(told.dataset, json.loads(told.parameters), told.threads)
    print(told.dataset, *about.values(), flush=True)
    write_json(Path(told.mark), about)


if __name__ == "__main__":
    speak_plainly()
    sys.exit(status_of(lambda: main(sys.argv[1:])))

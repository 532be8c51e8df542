"Every name of the door has an example in its docstring, and the examples are true."
import doctest

import numpy as np
import pandas as pd
import pytest
import torch

import taco
from taco.tasks.task import TASKS

NAMES = [name for name in taco.__all__ if name != "ALL_TASKS"]  # that is a tuple of names, with tuple's own docstring


@pytest.fixture(scope="module")
def folder(tmp_path_factory): return tmp_path_factory.mktemp("examples")


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_a_name_is_true(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    known, before = dict(taco=taco, np=np, pd=pd, torch=torch), dict(TASKS)
    found = doctest.DocTestFinder(recurse=False).find(getattr(taco, name), name, globs=known)
    told = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in found: told.run(test)
    for new in set(TASKS) - set(before) - set(taco.ALL_TASKS): del TASKS[new]
    assert told.tries > 0 and told.failures == 0

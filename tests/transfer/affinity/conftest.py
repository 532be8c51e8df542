"A small matrix on phantoms, measured once."
import pytest

from taco.transfer.affinity.network import Course
from taco.transfer.affinity.outcomes import Matrix, measure
from taco.transfer.affinity.problems import Problem, pack_targets


def named(*names: str) -> tuple[Problem, ...]: return tuple(map(Problem.named, names))


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("affinity")
    names = named("shear@yeaz", "shear@promise12", "shear@nuset", "shear@usforkidney")
    packed = pack_targets(names, out=place, size=64, source="phantom", subjects=14)
    return {problem.images: folder for problem, folder in zip(names, packed)}


@pytest.fixture(scope="session")
def matrix(folders):
    return Matrix(
        named("gaussian_denoising@radiology", "intensity_inversion@microscopy and photography"),
        named("boundary_detection@nuset", "deblurring@usforkidney"),
        (folders["yeaz"], folders["promise12"]), (folders["nuset"], folders["usforkidney"]),
        Course(16, (4, 8), pairs=8, source_steps=3, labelled=4, steps=(2, 4), whole_steps=5))


@pytest.fixture(scope="session")
def measured(matrix, tmp_path_factory):
    state = tmp_path_factory.mktemp("state")
    for _ in measure(matrix, [0, 1], state): pass
    return state

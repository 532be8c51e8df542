import pytest

from taco.transfer.unified.representation import learn_representation
from tests.transfer.unified.toys import WIDTHS, brief, examples


@pytest.fixture(scope="session")
def images(): return examples()


@pytest.fixture(scope="session")
def representation(images): return learn_representation(images, "toy", brief(5), WIDTHS, 8)

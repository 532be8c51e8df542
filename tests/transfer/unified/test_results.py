"UMS-Rep: what counts as no loss, as a gain and as chance."
import pandas as pd

from taco.transfer.unified.results import Results, beats_chance, gains, no_loss
from tests.transfer.unified.toys import TARGETS


def test_no_loss_and_gain_are_read_from_intervals():
    row = pd.Series({
        "accuracy change": -.01, "accuracy change high": .01, "dice change": -.001, "dice change high": .01,
        "psnr change": -1.5, "psnr change high": -1., "accuracy gain low": -.02, "dice gain low": .001})
    assert not no_loss(row) and no_loss(row, ("accuracy", "dice")) and gains(row) == ["dice"]
    accuracy = lambda change, high: pd.Series({"accuracy change": change, "accuracy change high": high})
    assert not no_loss(accuracy(-.17, .3), ("accuracy",)), "a wide interval is not the same as no loss"
    assert not no_loss(accuracy(-.01, -.001), ("accuracy",))


def test_what_chance_is():
    truth = [0., 1.] * 20
    scores = lambda right: pd.DataFrame({"correct finding": right, "class finding": truth, "margin finding": 0.})
    results = lambda *each: Results("toy", TARGETS, [0, 1], {"separate-all-1": [scores(e) for e in each]}, {}, [])
    good, coin = [1.] * 38 + [0.] * 2, [1., 0.] * 20
    assert beats_chance(results(good, good)) and not beats_chance(results(coin, coin))
    assert not beats_chance(results(good, coin)), "seeds that disagree"

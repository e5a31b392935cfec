"""What a try trains: the given scale, with one run of the method per slot."""

import numpy as np
import pytest

from dtr.config.resolve import run_settings
from dtr.planning.evaluations import evaluations
from dtr.planning.runs import all_runs, milestones
from dtr.support.errors import Refusal
from dtr.trying.check import check_method, first_masks, weights_over_time
from dtr.trying.plan import name_of, own_run, scale_of_try, wanted_files
from tests.unit.trying.conftest import asked

BAD = """
import numpy as np
from dtr.support.settings import PartSettings

def crash(settings, layers, timesteps, channels):
    raise ZeroDivisionError("no\\nway")

def floats(settings, layers, timesteps, channels):
    return np.full((1, timesteps, channels), np.nan)

def flat(settings, layers, timesteps, channels):
    return np.ones((timesteps, channels), dtype=bool)

def empty(settings, layers, timesteps, channels):
    table = np.ones((1, timesteps, channels), dtype=bool)
    table[0, 7] = False
    return table

def wide(settings, layers, timesteps, channels):
    if channels < 64:
        raise ValueError(f"only {channels} channels")
    return np.ones((1, timesteps, channels), dtype=bool)

class Undefined:
    def __init__(self, settings, snr):
        self.tables, self.parameters = {}, {}
    def draw_timesteps(self, draws, size, timesteps):
        return draws.integers(*timesteps, size=size)
    def loss(self, mse, vb, t, own):
        return (mse * float("nan")).mean()

class Fractions(Undefined):
    def draw_timesteps(self, draws, size, timesteps):
        return draws.random(size)
    def loss(self, mse, vb, t, own):
        return mse.mean()

class Late(Undefined):
    def loss(self, mse, vb, t, own):
        return mse.mean() if len(mse) > 64 else own["late"]

class Missing(Undefined):
    def loss(self, mse, vb, t, own):
        return mse + own["missing"]
"""


@pytest.fixture
def bad(tmp_path) -> str:
    path = tmp_path / "bad.py"
    path.write_text(BAD, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("method", "constants", "name"),
    [
        ("methods/checker.py:table", {}, "checker-table"),
        ("./methods/checker.py:table", {"width": 3, "seed": 1}, "checker-table-seed-1-width-3"),
        ("other/checker.py:table", {}, "other-checker-table"),
        ("dtr", {"alpha": 2.5}, "dtr-alpha-2.5"),
    ],
)
def test_a_name_says_file_function_and_constants(root, method, constants, name):
    assert name_of(asked(root, method=method, constants=constants)) == name


def test_long_names_are_cut_and_stay_different(root):
    names = {name_of(asked(root, method="dtr", constants={"a" * 90: n})) for n in range(3)}
    assert len(names) == 3
    assert max(map(len, names)) < 80


def test_the_run_has_network_and_length_of_table_1(scale, root):
    run = own_run(asked(root, method="methods/checker.py:table"), "unconditional")
    plain = all_runs(scale)["ffhq256-b2-none"]
    assert run.id == "ffhq256-b2-try-checker-table-width-9"
    assert (run.backbone, run.iterations) == (plain.backbone, plain.iterations)
    assert run.routing.constants == {"width": 9}
    own = asked(root, method="p2", family="weighting", constants={"k": 2.0})
    assert own_run(own, "unconditional").routing.type == "none"
    assert own_run(own, "unconditional").weighting.constants == {"k": 2.0}


def test_nothing_of_the_runs_that_exist_changes(whole, root):
    """Settings, milestones and protocols: what the jobs of none and DTR are made of."""
    own = scale_of_try(whole, asked(root, slots=["class_conditional", "pixel_unconditional"]))
    assert own.results == whole.results
    before = {(one.name, one.step, one.protocol.id) for one in evaluations(whole)}
    after = {(one.name, one.step, one.protocol.id) for one in evaluations(own)}
    assert before < after
    for run in all_runs(whole).values():
        assert milestones(own, run) == milestones(whole, run)
        assert run_settings(own, run, 0) == run_settings(whole, run, 0)


def test_exactly_the_three_are_asked_for(tried):
    own, trial = tried
    wanted = [path.removeprefix(own.results) for path in wanted_files(own, trial)]
    names = ("ffhq256-b2-", "in256-l2-")
    runs = {path.split("/")[2] for path in wanted}
    assert runs == {run for place in trial.places for run in place.runs.values()}
    assert {run.removeprefix("ffhq256-b2-") for run in runs if run.startswith(names[0])} == {
        trial.places[0].runs["method"].removeprefix("ffhq256-b2-"),
        "none",
        "dtr-a4",
    }
    assert len([path for path in wanted if "/metrics/" in path]) == 2 * 3 * 3
    assert all("/seed0/" in path for path in wanted if "/samples/" in path)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("crash", "raised ZeroDivisionError: no way"),
        ("floats", r"returned float64 \[1, 1000, 72\]; accepted: bool"),
        ("flat", r"returned bool \[1000, 72\]; accepted: bool"),
        ("empty", "timestep 7 of layer 0 is left without channels"),
        ("nothing", "has no 'nothing'"),
    ],
)
def test_a_bad_routing_is_refused_in_one_line(scale, root, bad, function, message):
    with pytest.raises(Refusal, match=message) as refused:
        scale_of_try(scale, asked(root, method=f"{bad}:{function}", constants={}))
    assert len(str(refused.value).splitlines()) == 1
    assert f"bad.py:{function}" in str(refused.value)


def test_wrong_constants_are_named(scale, root):
    for constants, message in (({}, "width: missing"), ({"width": 0}, "width = 0: ")):
        with pytest.raises(Refusal, match=f"^--constants: .*checker.py:table: .*{message}"):
            scale_of_try(scale, asked(root, constants=constants))


def test_a_slot_that_the_scale_lacks_is_named(scale, root):
    with pytest.raises(Refusal, match="--slots: text_conditional: the digits scale fills no slot"):
        scale_of_try(scale, asked(root, slots=["text_conditional"]))


def test_every_width_of_a_u_net_is_tried(whole, root, bad):
    own = asked(root, method=f"{bad}:wide", constants={}, slots=["pixel_unconditional"])
    changed = scale_of_try(whole, own)
    with pytest.raises(Refusal, match=r"wide'?: raised ValueError: only \d+ channels"):
        check_method(changed, own)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Undefined", "its loss of errors of 1 is nan; accepted: finite"),
        ("Fractions", r"draws timesteps float64 \[32\]; accepted: int64 \[32\] from 0 to 999"),
        ("Late", "raised KeyError: 'late'"),  # of a batch, not of all timesteps
        ("Missing", "raised KeyError: 'missing'"),
    ],
)
def test_a_bad_weighting_is_refused_in_one_line(scale, root, bad, name, message):
    own = asked(root, method=f"{bad}:{name}", family="weighting", constants={})
    with pytest.raises(Refusal, match=message) as refused:
        check_method(scale_of_try(scale, own), own)
    assert len(str(refused.value).splitlines()) == 1


def test_what_is_drawn_of_a_method(scale, root):
    own = asked(root)
    changed = scale_of_try(scale, own)
    masks = first_masks(run_settings(changed, own_run(own, "unconditional"), 0))
    assert masks.shape == (1000, 72)
    assert masks.mean() == pytest.approx(0.5)
    own = asked(root, method="p2", family="weighting", constants={})
    settings = run_settings(scale_of_try(scale, own), own_run(own, "unconditional"), 0)
    weights = weights_over_time(settings)
    assert weights.shape == (1000,)
    assert np.all(np.diff(weights) > -1e-6)  # 1 / (1 + SNR), and the SNR falls
    assert weights[-1] == pytest.approx(1.0, abs=1e-3)

"""Two numbers share a protocol id exactly if they may be compared."""

import pytest

from dtr.config.checks import load_scale
from dtr.config.scale import Scale
from dtr.planning.evaluations import protocol


def scale_with(digits: dict, **sections: dict) -> Scale:
    return load_scale(
        digits | {name: digits[name] | values for name, values in sections.items()}, source="test"
    )


def test_protocol_id_changes_with_guidance_on_conditional_slots_only(digits, scale):
    other = scale_with(digits, evaluation={"guidance": 2.0})
    assert protocol(scale, "class_conditional").id != protocol(other, "class_conditional").id
    assert protocol(scale, "unconditional") == protocol(other, "unconditional")


@pytest.mark.parametrize(
    "values",
    [
        {"n_samples": 1999},
        {"sampling_steps": 25},
        {"x0_clamp": None},
        {"guidance_channels": "first3"},
        {"labels": "balanced"},
        {"seed": 1},
        {"neighbours": 5},
        {"kid_subset": 499},
        {"inception_split": 100},
    ],
)
def test_protocol_id_changes_with_whatever_changes_numbers(digits, scale, values):
    other = scale_with(digits, evaluation=values)
    for slot in scale.slots:
        assert protocol(scale, slot).id != protocol(other, slot).id


def test_protocol_id_does_not_change_with_the_portions_of_the_work(digits, scale):
    other = scale_with(digits, evaluation={"batch_size": 100, "shard_size": 500})
    assert all(protocol(scale, slot).id == protocol(other, slot).id for slot in scale.slots)


def test_protocol_id_is_readable_and_fit_for_a_path(scale):
    evaluation = scale.evaluation
    conditional = protocol(scale, "class_conditional").id
    assert conditional.startswith(f"n{evaluation.n_samples}-cfg{evaluation.guidance:g}-")
    assert protocol(scale, "unconditional").id.startswith(f"n{evaluation.n_samples}-uncond-")
    assert not set(conditional) & set("/ {}*")

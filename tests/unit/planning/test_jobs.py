"""The graph of jobs: what targets share, what is there, what is left. Snakemake's own is compared
in tests/workflow."""

from pathlib import Path

import pytest

from dtr.planning.jobs import catalogue, file_of, jobs_behind, remaining
from dtr.planning.places import Places


def make(*jobs) -> None:
    """Pretend that some jobs are done."""
    for job in jobs:
        for output in job.outputs:
            Path(output).parent.mkdir(parents=True, exist_ok=True)
            Path(output).touch()


@pytest.fixture
def wanted(scale) -> list[str]:
    return [file_of(scale, "table1")]


@pytest.fixture
def jobs(scale, wanted):
    """Those behind Table 1: six runs, two untrained networks, one dataset for both slots."""
    return jobs_behind(catalogue(scale), wanted)


def left(jobs, wanted) -> set[str]:
    return remaining(jobs, wanted, there={key for key, job in jobs.items() if job.there()})


def stages(jobs, keys) -> list[str]:
    return sorted(jobs[key].stage for key in keys)


def test_everything_behind_a_table_once(jobs):
    shared = ["cache_latents", "prepare_data", "real_features", "table", "train_autoencoder",
              "train_extractor"]  # fmt: skip
    each = ["measure", "sample", "train"] * 8
    assert stages(jobs, jobs) == sorted([*shared, *each, "measure_real", "measure_real"])
    for job in jobs.values():
        assert set(job.needs) <= jobs.keys()


def test_trainings_continue_milestones_and_extended_runs(whole):
    known, places = catalogue(whole), Places(whole.results)
    final = known[places.training("in256-l2-dtr-a4-ant_uw_8-2M", 0, 5000)]
    assert final.before == 1000
    assert known[places.training("in256-l2-dtr-a4-ant_uw_8", 0, 1000)].before == 750
    assert known[places.training("in256-l2-none", 0, 0)].before == 0


def test_experts_are_drawn_and_measured_as_one_model(whole):
    known = catalogue(whole)
    jobs = jobs_behind(known, [file_of(whole, "table6")])
    (measured,) = (job for job in jobs.values() if job.stage == "measure" and "expert" in job.name)
    assert sum("train.json" in need for need in measured.needs) == 4


def test_samples_are_cut_into_shards(digits, tmp_path):
    from dtr.config.checks import load_scale

    digits["evaluation"] |= {"n_samples": 1000, "n_samples_reduced": 1000, "shard_size": 400}
    own = load_scale(digits | {"results": str(tmp_path / "r")}, source="test")
    jobs = jobs_behind(catalogue(own), [file_of(own, "table1")]).values()
    drawn = [job.images for job in jobs if job.stage == "sample" and job.name == "in256-l2-none"]
    assert drawn == [400, 400, 200] * 2  # untrained, and at its end


def test_nothing_is_there_at_first(jobs, wanted):
    assert left(jobs, wanted) == jobs.keys()


def test_what_is_there_is_not_done_again(jobs, wanted):
    make(*(job for job in jobs.values() if job.stage in ("prepare_data", "train_extractor")))
    assert left(jobs, wanted) == {
        key for key, job in jobs.items() if job.stage not in ("prepare_data", "train_extractor")
    }
    make(*jobs.values())
    assert left(jobs, wanted) == set()


def test_half_of_a_job_is_none(jobs, wanted):
    make(*jobs.values())
    training = next(job for job in jobs.values() if job.stage == "train")
    Path(training.outputs[1]).unlink()
    assert not training.there()


def test_what_nobody_needs_any_more_is_not_missed(jobs, wanted):
    """Samples may be thrown away when they are measured."""
    make(*(job for job in jobs.values() if job.stage != "sample"))
    assert left(jobs, wanted) == set()


def test_what_is_made_again_has_everything_after_it_made_again(jobs, wanted):
    make(*jobs.values())
    measured = next(
        job for job in jobs.values() if job.stage == "measure" and job.name == "in256-l2-rtr"
    )
    Path(measured.key).unlink()
    Path(wanted[0]).unlink()
    assert stages(jobs, left(jobs, wanted)) == ["measure", "table"]
    for need in measured.needs:
        if "shard" in need:
            Path(need).unlink()
    assert stages(jobs, left(jobs, wanted)) == ["measure", "sample", "table"]

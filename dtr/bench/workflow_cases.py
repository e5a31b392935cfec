"""Cases of everything around the computing: start of verbs, the plan, the page."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from dtr.bench.timing import Bench, Case, Variant
from dtr.support.errors import Refusal

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = "results/reference/digits"
VERBS = ("train", "sample", "measure", "report")


def _command(*arguments: str) -> Callable[[], object]:
    """Run in the project's folder; what it says is shown only when it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "DTR_WARM"}

    def run() -> None:
        answer = subprocess.run(
            arguments, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        if answer.returncode:
            said = (answer.stderr or answer.stdout).strip().splitlines()
            raise Refusal(f"{' '.join(arguments)}: {said[-1] if said else 'failed'}")

    return run


def _need(*names: str) -> None:
    for name in names:
        if not (ROOT / name).exists():
            raise Refusal(f"{ROOT / name}: not there; the case needs a checkout of the project")


def _starts(bench: Bench) -> dict[str, Variant]:
    verbs = VERBS[:1] if bench.small else VERBS
    dtr = (sys.executable, "-m", "dtr")
    return {f"{verb} --help": Variant(_command(*dtr, verb, "--help")) for verb in verbs}


def _imports(bench: Bench) -> dict[str, Variant]:
    modules = ("torch", "dtr.training.loop", "dtr.sampling.shards", "dtr.metrics.measure")
    chosen = modules[:1] if bench.small else modules
    python = (sys.executable, "-c")
    return {name: Variant(_command(*python, f"import {name}")) for name in chosen}


def _plan(_bench: Bench) -> dict[str, Variant]:
    _need("Snakefile", "workflow/config/smoke.yaml")
    snakemake = (sys.executable, "-m", "snakemake", "-n", "-q", "--nolock")
    empty = ("--config", "results=results/bench-of-nothing")
    return {
        "digits": Variant(_command(*snakemake, *empty)),
        "smoke": Variant(
            _command(*snakemake, "--configfile", "workflow/config/smoke.yaml", *empty)
        ),
    }


def _page(bench: Bench) -> dict[str, Variant]:
    from dtr.records.reference import restore
    from dtr.reporting.html import build_report

    _need(REFERENCE, "report")
    scale = restore(ROOT / REFERENCE, bench.folder / "page")
    return {"all of it": Variant(lambda: build_report(scale, Path(scale.results)))}


CASES = (
    Case("starts", "start", "verbs that only say their options", _starts, alike=False),
    Case("imports", "start", "what jobs import first", _imports, alike=False),
    Case("plan", "plan", "`snakemake -n` without any result", _plan, alike=False),
    Case("page", "page", "tables, figures, claims and page of the reference results", _page),
)

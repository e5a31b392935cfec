"""The verb that looks whether this machine can run a scale, in seconds, before anything starts."""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dtr.commands import options
from dtr.commands.plan import SCALE, size_text
from dtr.commands.scale import read_scale
from dtr.support.errors import Refusal

if TYPE_CHECKING:
    from dtr.config.pretrained import PretrainedSettings
    from dtr.config.scale import Scale

OK, WARNING, MISSING = "ok", "warning", "missing"
SHARED = Path("/dev/shm")
SHARED_NEEDED = 1 << 30  # bytes, for processes of one training that hand tensors to each other
MEMORY_NEEDED = 12 << 30  # bytes, for DiT-L/2 with its optimiser in float32, and what feeds it
# Settings of a source that say where its files lie.
FIELDS = ("path", "images", "captions", "test_images", "test_captions")


class Finding(NamedTuple):
    """One line: what was looked at, what was found, and what mends it where it is not right."""

    state: str
    about: str
    found: str
    mend: str = ""


def doctor(args: argparse.Namespace) -> None:
    """Say what this machine lacks for a scale, and what mends it; starts nothing."""
    scale = read_scale(args.configfile, args.config)
    findings = [finding for look in LOOKS for finding in look(scale)]
    width = max(len(finding.about) for finding in findings)
    for finding in findings:
        mend = f"; {finding.mend}" if finding.mend else ""
        print(f"{finding.state:<8} {finding.about:<{width}}  {finding.found}{mend}")
    missing = [finding.about for finding in findings if finding.state == MISSING]
    if missing:
        raise Refusal(f"missing for the {scale.scale} scale: {', '.join(dict.fromkeys(missing))}")


def versions(scale: "Scale") -> Iterator[Finding]:
    """Python and the packages that the project declares, and those of the extra `paper`."""
    from packaging.requirements import Requirement

    wrong, extra = [], set()
    if any(own.type == "clip" for own in scale.text_encoders.values()):
        extra.add("transformers")
    if any(getattr(own, "download", False) for own in scale.extractors.values()):
        extra.add("pooch")
    try:
        declared = [Requirement(text) for text in requires("dtr") or []]
    except PackageNotFoundError:
        yield Finding(WARNING, "versions", "the package dtr is not installed", "make install")
        declared = []
    for wanted in declared:
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            wrong.append(f"{wanted.name} is not installed")
            continue
        if not wanted.specifier.contains(found, prereleases=True):
            wrong.append(f"{wanted.name} {found} is not {wanted.specifier}")
    wrong += [f"{name} is not installed" for name in sorted(extra) if find_spec(name) is None]
    python = ".".join(map(str, sys.version_info[:3]))
    if wrong:
        mend = "pip install -c envs/constraints.txt -e '.[paper]'"
        yield Finding(MISSING, "versions", f"Python {python}; {', '.join(wrong)}", mend)
    else:
        yield Finding(OK, "versions", f"Python {python}, torch {version('torch')}")


def devices(scale: "Scale") -> Iterator[Finding]:
    """The GPUs that the scale asks for."""
    import torch

    execution = scale.execution
    if execution.nodes > 1 and shutil.which("srun") is None:
        found = f"no srun; execution.nodes = {execution.nodes}"
        yield Finding(MISSING, "nodes", found, "run it where SLURM is, or set execution.nodes: 1")
    if execution.device == "cpu":
        cores = os.cpu_count() or 1
        yield Finding(OK, "device", f"cpu, {cores} cores")
        if execution.throughput_threads > cores:
            told = f"throughput_threads = {execution.throughput_threads} of {cores} cores"
            yield Finding(WARNING, "device", told, "Table 7 is timed with fewer")
        return
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count < execution.processes:
        built = torch.version.cuda
        why = "torch is built without CUDA" if built is None else f"torch is built for CUDA {built}"
        mend = (
            "install the driver and a torch that fits it (envs/environment-cuda.yaml), or set "
            "execution.device: cpu"
        )
        if count:
            why, mend = f"execution.processes = {execution.processes}", "set it to what there is"
        yield Finding(MISSING, "device", f"{count} GPUs; {why}", mend)
        return
    for number in range(count):
        own = torch.cuda.get_device_properties(number)
        yield Finding(OK, "device", f"GPU {number}: {own.name}, {size_text(own.total_memory)}")


def memory(scale: "Scale") -> Iterator[Finding]:
    """Memory of the machine, and what processes share of it."""
    import psutil

    total = psutil.virtual_memory().total
    if "DiT-L/2" in scale.backbones and "table7" in scale.targets and total < MEMORY_NEEDED:
        mend = "Table 7 times DiT-L/2, which takes about 10 GB: leave table7 out of targets"
        yield Finding(WARNING, "memory", size_text(total), mend)
    else:
        yield Finding(OK, "memory", size_text(total))
    if scale.execution.processes > 1 and SHARED.is_dir():
        free = shutil.disk_usage(SHARED).free
        small = free < SHARED_NEEDED
        mend = "in a container: --shm-size 8g, or --ipc host" if small else ""
        state = MISSING if small else OK
        yield Finding(state, "shared memory", f"{size_text(free)} free in {SHARED}", mend)


def results(scale: "Scale") -> Iterator[Finding]:
    """Whether the results folder can be written to, and whether the disk is large enough."""
    from dtr.analysis.forecast import forecast

    folder = Path(scale.results)
    there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=there):
            pass
    except OSError as error:
        mend = "give yourself the right to write there, or name another folder in `results`"
        yield Finding(MISSING, "results", f"{there}: {error.strerror}", mend)
        return
    yield Finding(OK, "results", f"{scale.results} can be written to")
    free = shutil.disk_usage(there).free
    disk = forecast(scale, [], tflops=1.0).union.disk
    needed = sum(size for size in disk.values() if size is not None)
    unknown = [kind for kind, size in disk.items() if size is None]
    told = f"{size_text(free)} free, about {size_text(needed)} needed in all"
    told += f" and {' and '.join(unknown)}, whose size is not known" if unknown else ""
    if free < needed:
        mend = "let `results` lie on a larger disk (a symbolic link will do), or cut `targets`"
        yield Finding(WARNING, "disk", told, mend)
    else:
        yield Finding(OK, "disk", told)


def datasets(scale: "Scale") -> Iterator[Finding]:
    """Whether the images are where the scale says; they are not counted here."""
    from dtr.planning.places import Places

    for name, settings in scale.datasets.items():
        about = f"dataset {name}"
        manifest = Path(Places(scale.results).dataset(name))
        yield from _class_count(scale, name, manifest)
        if manifest.is_file():
            yield Finding(OK, about, "prepared")
            continue
        told = {key: getattr(settings, key, None) for key in FIELDS}
        told = {key: Path(path) for key, path in told.items() if isinstance(path, str)}
        lost = [key for key, path in told.items() if not _has_content(path)]
        for key in lost:
            found = "is empty" if told[key].exists() else "no such file or folder"
            mend = f"put it there, or say in datasets.{name}.{key} where it is"
            yield Finding(MISSING, about, f"{told[key]}: {found}", mend)
        if not lost:
            yield Finding(OK, about, " and ".join(map(str, told.values())) or "made here")


def _class_count(scale: "Scale", name: str, manifest: Path) -> Iterator[Finding]:
    """Another number of classes than a slot is told, where it is known without reading images."""
    from dtr.planning.jobs import told_classes
    from dtr.support.files import read_json

    wanted, settings = told_classes(scale, name), scale.datasets[name]
    folder = Path(getattr(settings, "path", ""))
    if manifest.is_file():
        found, where = read_json(manifest).get("num_classes"), "prepared with"
    elif getattr(settings, "classes", False) and folder.is_dir():
        found = sum(one.is_dir() and not one.name.startswith(".") for one in folder.iterdir())
        where = f"{folder} has"
    else:
        return
    if wanted and found != wanted:
        mend = f"set num_classes, {wanted} in the slot, to what there is, or mend the dataset"
        yield Finding(MISSING, f"dataset {name}", f"{where} {found} classes", mend)


def _has_content(path: Path) -> bool:
    try:
        return any(path.iterdir()) if path.is_dir() else path.stat().st_size > 0
    except OSError:
        return False


def assets(scale: "Scale") -> Iterator[Finding]:
    """The networks of others, and published references."""
    from dtr.config.pretrained import is_pretrained
    from dtr.planning.places import Places

    places = Places(scale.results)
    for kind in ("autoencoder", "extractor", "text_encoder"):
        for name, settings in getattr(scale, f"{kind}s").items():
            if is_pretrained(settings):
                yield _asset(name, settings, Path(getattr(places, kind)(name)))
    for name, reference in scale.references.items():
        about = f"reference {name}"
        if reference.file is None:
            yield Finding(OK, about, f"computed from {reference.dataset}")
        elif Path(reference.file).is_file():
            yield Finding(OK, about, reference.file)
        else:
            mend = (
                f"put {reference.source or 'the published npz'} there, or leave out "
                f"references.{name}.file to have it computed"
            )
            yield Finding(MISSING, about, f"{reference.file}: no such file", mend)


def _asset(name: str, settings: "PretrainedSettings", record: Path) -> Finding:
    about = f"asset {name}"
    if record.is_file():
        return Finding(OK, about, "taken over")
    missing = [file for file in settings.origin.files if not (Path(settings.path) / file).is_file()]
    if not missing:
        return Finding(OK, about, settings.path)
    if settings.download:
        source = settings.origin.source
        mend = f"without network put {' and '.join(missing)} into {settings.path}"
        return Finding(WARNING, about, f"will be downloaded from {source}", mend)
    from dtr.assets.pretrained import wanted

    found, _, mend = wanted(name, settings, missing).removeprefix(f"{name}: ").partition("; ")
    return Finding(MISSING, about, found, mend)


LOOKS: tuple[Callable[["Scale"], Iterator[Finding]], ...] = (
    versions,
    devices,
    memory,
    results,
    datasets,
    assets,
)


def add_verbs(verbs: options.Verbs) -> None:
    """Declare the verb of this module, with its options."""
    options.add_configfile(options.add_verb(verbs, "doctor", doctor), default=SCALE)

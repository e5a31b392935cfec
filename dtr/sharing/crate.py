"""Metadata of an archive of results, as RO-Crate 1.1, which data repositories understand.

https://www.researchobject.org/ro-crate/specification/1.1
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from dtr import __version__
from dtr.records.table import Records
from dtr.reporting.listings import machines
from dtr.support.errors import Refusal
from dtr.support.files import hash_file, read_json

CRATE = "ro-crate-metadata.json"
ENVIRONMENT = "environment.json"
CONTEXT = [
    "https://w3id.org/ro/crate/1.1/context",
    "https://w3id.org/ro/terms/workflow-run/context",
]
FORMATS = {  # by the end of a name
    ".json": "application/json",
    ".csv": "text/csv",
    ".md": "text/markdown",
    ".tex": "application/x-tex",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpeg": "image/jpeg",
    ".pdf": "application/pdf",
    ".html": "text/html",
}
PAPER = "https://arxiv.org/abs/2310.07138"
LICENSE = "https://spdx.org/licenses/MIT"
SOFTWARE = "#dtr"


def environment(records: Records) -> dict[str, Any]:
    """Every machine, commit and set of package versions behind the records, with their counts."""
    return {"version": __version__, "made_on": machines(records)}


def crate(records: Records, paths: Mapping[str, Path]) -> dict[str, Any]:
    """The metadata of an archive with the files `paths`, by their names in it."""
    entities = [_file(name, path) for name, path in sorted(paths.items())]
    origin = [one["provenance"] for one in machines(records)]
    commits = sorted({str(one["commit"]) for one in origin if one.get("commit")})
    newest = max((time for one in machines(records) for time in one["times"]), default="")
    scale = records.scale
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"DTR reproducibility benchmark: results of the {scale.scale} scale",
        "description": (
            f"Records, tables, figures and page of the {scale.scale} scale, seeds "
            f"{', '.join(map(str, scale.seeds))}; without weights and images."
        ),
        "datePublished": newest[:10] or "1980-01-01",  # of the newest record
        "license": {"@id": LICENSE},
        "isBasedOn": {"@id": PAPER},
        "hasPart": [{"@id": one["@id"]} for one in entities],
        "mentions": {"@id": "#run"},
    }
    software = {
        "@id": SOFTWARE,
        "@type": "SoftwareApplication",
        "name": "DTR reproducibility benchmark",
        "version": __version__,
        "identifier": commits or ["unknown"],  # commits of its repository
    }
    run = {
        "@id": "#run",
        "@type": "CreateAction",
        "name": f"The {scale.scale} scale",
        "instrument": {"@id": SOFTWARE},
        "object": {"@id": "scale.json"},
        "result": {"@id": "./"},
        "endTime": newest,
    }
    about = {
        "@id": CRATE,
        "@type": "CreativeWork",
        "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
        "about": {"@id": "./"},
    }
    paper = {
        "@id": PAPER,
        "@type": "ScholarlyArticle",
        "name": "Denoising Task Routing for Diffusion Models",
    }
    license_ = {"@id": LICENSE, "@type": "CreativeWork", "name": "MIT License"}
    return {
        "@context": CONTEXT,
        "@graph": [about, root, software, run, paper, license_, *entities],
    }


def _file(name: str, path: Path) -> dict[str, Any]:
    return {
        "@id": quote(name, safe="/+"),
        "@type": "File",
        "name": name,
        "contentSize": str(path.stat().st_size),
        "encodingFormat": FORMATS.get(Path(name).suffix, "application/octet-stream"),
        "sha256": hash_file(path),
    }


def listed(path: Path) -> dict[str, str]:
    """SHA-256 of every file that the metadata of an archive lists, by its name there."""
    try:
        entities = read_json(path)["@graph"]
        files = [one for one in entities if one.get("@type") == "File"]
        return {unquote(str(one["@id"])): str(one["sha256"]) for one in files}
    except (KeyError, TypeError, AttributeError) as error:
        raise Refusal(f"{path}: not the metadata of an archive of results ({error})") from None

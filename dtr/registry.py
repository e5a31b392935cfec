"""One registry of all parts that can be exchanged: seven families, ours and other people's.

A part is a builder and a settings model with its constants. Ours are listed below. A part from
outside is named in a scale by the file it lives in, relative to the working directory,

    routing: {type: "methods/checker.py:table", width: 3}

or by an entry point of an installed package, in its pyproject.toml:

    [project.entry-points."dtr.routing"]
    checker = "my_package.masks:table"

Its settings are the annotation of its builder's first argument, a subclass of
`dtr.support.settings.PartSettings`. What it is belongs to the identity of a result: see
`part_identity`. Free of torch, as long as the parts themselves are.
"""

import hashlib
import inspect
import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_type_hints

from pydantic import (
    Discriminator,
    PlainSerializer,
    PlainValidator,
    Tag,
    WithJsonSchema,
)

from dtr.support.errors import Refusal
from dtr.support.files import hash_file
from dtr.support.settings import PartSettings, parse
from dtr.support.trust import check_trusted

Family = Literal[
    "routing", "weighting", "backbone", "source", "autoencoder", "text_encoder", "extractor"
]
FAMILIES: tuple[Family, ...] = get_args(Family)


class Part(NamedTuple):
    """Where a part of ours is, as "module:attribute"; modules are read when they are needed."""

    builder: str
    settings: str


_SIZES, _STAGES, _OTHERS = "dtr.config.backbones", "dtr.config.stages", "dtr.config.pretrained"
BUILT_IN: dict[Family, dict[str, Part]] = {
    "routing": {
        "none": Part("dtr.routing:no_masks", "dtr.routing:Unrouted"),
        "random": Part("dtr.routing:random_table", "dtr.routing:Random"),
        "dtr": Part("dtr.routing:dtr_table", "dtr.routing:Windows"),
        "max_roaming": Part("dtr.routing:MaxRoaming", "dtr.routing:Roaming"),
        "ercdt": Part("dtr.routing:ercdt_table", "dtr.routing:Explicit"),
        "cdtr": Part("dtr.routing:cdtr_table", "dtr.routing:ClusteredWindows"),
    },
    "weighting": {
        "vanilla": Part("dtr.weighting:Weighting", "dtr.weighting:Unweighted"),
        "p2": Part("dtr.weighting:P2", "dtr.weighting:P2Settings"),
        "min_snr": Part("dtr.weighting:MinSNR", "dtr.weighting:MinSNRSettings"),
        "ant_uw": Part("dtr.weighting:UncertaintyWeighting", "dtr.weighting:ANTUWSettings"),
    },
    "backbone": {
        "dit": Part("dtr.backbones.dit:DiT", f"{_SIZES}:DiTSize"),
        "dit_text": Part("dtr.backbones.dit_text:DiTText", f"{_SIZES}:TextDiTSize"),
        "adm": Part("dtr.backbones.adm:ADM", f"{_SIZES}:AdmSize"),
    },
    "source": {
        "mnist": Part("dtr.data.sources.mnist:digits", "dtr.data.sources.mnist:MnistSettings"),
        "scenes": Part("dtr.data.sources.scenes:scenes", "dtr.data.sources.scenes:ScenesSettings"),
        "coco": Part("dtr.data.sources.coco:coco", "dtr.data.sources.coco:CocoSettings"),
        "folders": Part(
            "dtr.data.sources.folders:folders", "dtr.data.sources.folders:FoldersSettings"
        ),
    },
    "autoencoder": {
        "train": Part("dtr.assets.autoencoder:small_kl", f"{_STAGES}:AutoencoderSettings"),
        "sd_vae": Part("dtr.assets.sd_vae:sd_vae", f"{_OTHERS}:SdVaeSettings"),
    },
    "text_encoder": {
        "words": Part("dtr.assets.text_encoder:WordEncoder", f"{_STAGES}:WordsSettings"),
        "clip": Part("dtr.assets.clip:ClipEncoder", f"{_OTHERS}:ClipSettings"),
    },
    "extractor": {
        "digits_cnn": Part("dtr.assets.extractor:DigitsCNN", f"{_STAGES}:ExtractorSettings"),
        "inception": Part("dtr.assets.inception:Inception", f"{_OTHERS}:InceptionSettings"),
        "inception_clean": Part(
            "dtr.assets.inception_clean:InceptionClean", f"{_OTHERS}:InceptionCleanSettings"
        ),
    },
}
# Settings of a part from outside whose builder declares none; other families have to declare them.
UNDECLARED: dict[Family, str] = {
    "routing": "dtr.routing:AnyRouting",
    "weighting": "dtr.weighting:AnyWeighting",
}
# What the settings of a part from outside have to build on, where the workflow reads them itself.
BASES: dict[Family, str] = {
    "backbone": f"{_SIZES}:BackboneSize",
    "source": f"{_STAGES}:SourceSettings",
    "autoencoder": f"{_STAGES}:LatentsSettings",
    "text_encoder": f"{_STAGES}:TextEncoderSettings",
    "extractor": f"{_STAGES}:FittedSettings",
}


def named(family: Family, name: str) -> str:
    """How a part is called in messages."""
    return f"{family.replace('_', ' ')} {name!r}"


def known_names(family: Family) -> tuple[str, ...]:
    """All names that can be asked for without a file, built-in ones first."""
    return tuple(dict.fromkeys([*BUILT_IN[family], *_installed(family)]))


def load(family: Family, name: str) -> Callable[..., Any]:
    """The builder of a part; its contract is told where the family is used."""
    if name in BUILT_IN[family]:
        return _attribute(BUILT_IN[family][name].builder)
    return _outside(family, name)[0]


def settings_model(family: Family, name: str) -> type[PartSettings]:
    """The settings that a part takes, with its constants."""
    if name in BUILT_IN[family]:
        return _attribute(BUILT_IN[family][name].settings)
    builder, _ = _outside(family, name)
    model = _declared(builder)
    if model is None and family in UNDECLARED:
        return _attribute(UNDECLARED[family])
    if model is None:
        raise Refusal(
            f"{named(family, name)}: declares no settings; accepted: a builder whose first "
            f"argument is annotated with a subclass of {_base(family).__name__}"
        )
    if not issubclass(model, _base(family)):
        raise Refusal(
            f"{named(family, name)}: its settings {model.__name__} are not a subclass of "
            f"{_base(family).__module__}.{_base(family).__name__}"
        )
    return model


def build(family: Family, name: str, *arguments: Any, **options: Any) -> Any:
    """What the builder of a part makes; whatever one from outside raises is refused by its name."""
    builder = load(family, name)
    if name in BUILT_IN[family]:
        return builder(*arguments, **options)
    try:
        return builder(*arguments, **options)
    except Refusal:
        raise
    except Exception as error:  # whatever somebody else's code may raise
        reason = " ".join(str(error).split()) or "no reason given"
        who = named(family, name)
        raise Refusal(f"{who}: raised {type(error).__name__}: {reason}") from None


def part_source(family: Family, name: str) -> str | None:
    """SHA-256 of the file of a part from outside, None for ours: what makes its jobs look again."""
    return None if name in BUILT_IN[family] else hash_file(_outside(family, name)[1])


def part_identity(family: Family, name: str) -> str | None:
    """What a part from outside is: the `version` it declares, or else its source; None for ours.

    A routing with a table is identified by that instead, and our own code by REVISIONS.
    """
    if name in BUILT_IN[family]:
        return None
    version = getattr(_outside(family, name)[0], "version", None)
    return part_source(family, name) if version is None else f"version {version}"


def settings_of(family: Family) -> Any:
    """The type of a field that holds the settings of any part of a family, told apart by `type`."""
    tags = {name: f"={name}" for name in BUILT_IN[family]}  # see dtr.support.settings.explain

    def tag(value: Any) -> str:
        kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
        return tags.get(kind, "=outside") if isinstance(kind, str) else "=outside"

    def outside(value: Any) -> PartSettings:
        if isinstance(value, PartSettings):
            return value
        if not isinstance(value, dict) or not isinstance(value.get("type"), str):
            raise ValueError(f"type: missing; known: {', '.join(known_names(family))}")
        try:
            return parse(settings_model(family, value["type"]), value, source="")
        except Refusal as refusal:
            raise ValueError(str(refusal).removeprefix(": ")) from None

    ours = [Annotated[settings_model(family, name), Tag(tags[name])] for name in tags]
    others = Annotated[
        PartSettings,
        PlainValidator(outside),
        PlainSerializer(lambda part, info: part.model_dump(**_options(info))),
        WithJsonSchema(_outside_schema(list(tags))),
        Tag("=outside"),
    ]
    return Annotated[Union[*ours, others], Discriminator(tag)]


def _outside_schema(ours: list[str]) -> dict[str, Any]:
    name = {"type": "string", "not": {"enum": ours}}
    return {"type": "object", "properties": {"type": name}, "required": ["type"]}


def _options(info: Any) -> dict[str, Any]:
    return {"mode": info.mode, "exclude_defaults": info.exclude_defaults}


def _base(family: Family) -> type[PartSettings]:
    return _attribute(BASES[family]) if family in BASES else PartSettings


def _attribute(place: str) -> Any:
    module, attribute = place.split(":")
    return getattr(import_module(module), attribute)


def _installed(family: Family) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"dtr.{family}")}


def _outside(family: Family, name: str) -> tuple[Callable[..., Any], Path]:
    """Builder and source file of a part that is not ours."""
    check_trusted(named(family, name))
    path, _, attribute = name.rpartition(":")
    if path.endswith(".py"):
        return _from_file(family, name, Path(path).resolve(), attribute)
    point = _installed(family).get(name)
    if point is None:
        known = ", ".join(known_names(family))
        raise Refusal(f"{family} = {name!r}: unknown; known: {known}, or file.py:name")
    try:
        builder = point.load()
    except Exception as error:  # whatever somebody else's code may raise
        raise _unreadable(family, name, error) from None
    return _checked(family, name, builder), Path(inspect.getfile(builder))


@cache
def _from_file(
    family: Family, name: str, path: Path, attribute: str
) -> tuple[Callable[..., Any], Path]:
    if not path.is_file():
        raise Refusal(f"{named(family, name)}: no such file: {path}")
    module_name = f"dtr_part_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    module = sys.modules.get(module_name)
    if module is None:
        spec = spec_from_file_location(module_name, path)
        module = module_from_spec(spec)
        sys.modules[module_name] = module  # so that its own classes can be found again
        try:
            spec.loader.exec_module(module)
        except Exception as error:  # whatever somebody else's code may raise
            del sys.modules[module_name]
            raise _unreadable(family, name, error) from None
    if not hasattr(module, attribute):
        raise Refusal(f"{named(family, name)}: {path.name} has no {attribute!r}")
    return _checked(family, name, getattr(module, attribute)), path


def _unreadable(family: Family, name: str, error: Exception) -> Refusal:
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return Refusal(f"{named(family, name)}: cannot be read ({reason})")


def _checked(family: Family, name: str, builder: Any) -> Callable[..., Any]:
    if not callable(builder):
        raise Refusal(f"{named(family, name)}: is a {type(builder).__name__}; accepted: a function")
    return builder


def _declared(builder: Callable[..., Any]) -> type[PartSettings] | None:
    """The settings model that annotates a builder's first argument, if it is the part's own."""
    function = builder.__init__ if inspect.isclass(builder) else builder
    names = [name for name in inspect.signature(function).parameters if name != "self"]
    try:
        model = get_type_hints(function).get(names[0]) if names else None
    except NameError:  # an annotation that only a type checker resolves
        model = None
    if not (inspect.isclass(model) and issubclass(model, PartSettings)):
        return None
    # A literal type is that of a part of ours, which a class from outside may have inherited.
    return model if model.model_fields["type"].annotation is str else None

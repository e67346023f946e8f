"""Who may import whom, and that importing costs nothing: the arrows of the architecture only point down."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODEL = "edgetam_model"
# A file may import files of lower levels and of its own. Files that are not listed stand on the last level.
LEVELS: list[set[str]] = [
    {"errors", "config"},
    {
        "masks",
        "windows",
        "outlines",
        "pieces",
        "credence",
        "searching",
        "prompts",
        "colour_cut",
        "ground",
        "first_looks",
        "answering",
        "results",
        "options",
    },
    {"nn"},
    {"model_io"},
    {"model"},
    {"parts"},
    {"images", "sources", "timetable", "packets", "decode", "video", "apart"},
    {"hf_layout", "hub", "weights_file", "weights"},
    {"runtime"},
    {"memory", "traces", "engine", "looking", "store", "finishing", "packing"},
    {"session", "propagation", "checkpoint", "object_state"},
    {"image_predictor", "video_tracker", "frame_tracker"},
    {"warming"},
    {"field_objects"},
    {"field_places"},
    {"tracks", "exports", "render", "demo_clip"},
    {"scoring", "scores", "annotator", "annotated_clips", "floors"},
    {"evaluation", "interactive", "training"},
    {"export"},
    {"bench"},
    {"__init__"},
]
TORCH_FREE = {
    *LEVELS[0],
    *LEVELS[1],
    "propagation",
    *("tracks", "exports", "render"),
    *("field_objects", "field_places"),
    *("scoring", "scores", "annotator", "annotated_clips", "floors"),
    *("video", "sources", "timetable", "packets", "decode", "images", "hub", "store", "demo_clip", "cli"),
    "apart",
}
# Of training, what reads a team's annotations, and what judges and shows what came of them.
DRAWN = {"annotations", "annotation_sources", "splits", "manifest", "annotated", "task_clips"}
DRAWN |= {"judging", "exchanged", "clip_tasks", "annotation_projects"}
DRAWN |= {f"fit_{name}" for name in ("report", "pictures", "options", "plan", "folder", "needs", "clips")}
DRAWN |= {"fitting", "fit_progress", "fit_storing"}
# Of parts and exports, what a host needs.
HOST = {
    "parts.specs",
    *(
        f"export.{name}"
        for name in ("bank", "host", "host_engine", "manifest", "onnx_runtime", "pixels", "rules")
    ),
}
ADAPTERS = ("backend", "cvat_function")
ANNOTATIONS = f"{MODEL}.training.annotations"  # the words into which adapters translate what teams drew
FIELD = {"field_objects", "field_places"}  # likewise what goes into field kits
# Between a platform's JSON and the model's vocabulary: light enough for a request, and for any test.
TRANSLATION = {
    "backend": (
        *("label_config", "brush_rle", "bitmask_png", "predictions"),
        *("image_shapes", "image_prompts", "image_regions"),
        *("frame_map", "keyframe", "video_command", "video_prompts", "video_plan", "video_keyframes"),
        *("fit_annotations", "fit_regions", "fit_tracks", "fit_source"),
        "video_work",
        *("clients", "rates", "access", "project_tokens", "gate", "acts"),
        *("field.manifest", "field.kit", "field.events", "field.journal", "field.work", "field.content"),
        *("field.starting", "field.views", "field.regions_out", "field.merging", "field.studio_merging"),
    ),
    "cvat_function": (
        *("json_numbers", "rle", "shapes", "clicks", "pictures", "settings", "answers"),
        *("exports", "export_archive", "export_coco", "export_drawn", "export_masks", "export_xml"),
        *("interactor.interactor", "tracker.state", "tracker.tracker"),
        *(f"field.{name}" for name in ("content", "showing", "reading", "writing")),
        *(f"field.{name}" for name in ("deciding", "merging", "place")),
    ),
}
PLATFORM_PACKAGES = {"flask", "rq", "redis", "label_studio_sdk", "label_studio_ml", "cvat_sdk", "nuclio_sdk"}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in the file; what is under TYPE_CHECKING is no import."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def lazy_imports(path: Path) -> set[str]:
    """Modules imported inside functions, which run later than the file's own import."""
    functions = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef)]
    inner = [n for f in functions for n in ast.walk(f) if isinstance(n, ast.ImportFrom)]
    named = {f"{node.module}.{alias.name}" for node in inner for alias in node.names}
    return named | {node.module for node in inner if node.module}


def unit(module: str) -> str:
    """`edgetam_model.nn.repvit` → `nn`."""
    return module.split(".")[1] if "." in module else "__init__"


def level(name: str) -> int:
    return next((i for i, names in enumerate(LEVELS) if name in names), len(LEVELS))


@pytest.mark.parametrize("path", sources(MODEL), ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows_point_down(path: Path) -> None:
    own = unit(".".join(path.relative_to(ROOT).with_suffix("").parts))
    lazy = lazy_imports(path)
    for module in set(imports(path)):
        if module.startswith(f"{MODEL}.") and module not in lazy:
            assert level(unit(module)) <= level(own), f"{own} must not import {module}"
        assert module.partition(".")[0] not in PLATFORM_PACKAGES | set(ADAPTERS), f"{own} imports {module}"
        if own in TORCH_FREE:
            assert module.partition(".")[0] != "torch", f"{own} must stay free of torch"


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_adapters_use_only_the_public_face(adapter: str) -> None:
    other = set(ADAPTERS) - {adapter}
    for path in sources(adapter):
        for module in imports(path):
            assert module.partition(".")[0] not in other
            if module.startswith(f"{MODEL}."):
                vocabulary = unit(module) in {"masks", *FIELD} or module.startswith(ANNOTATIONS)
                assert vocabulary or unit(module) in public_names(), f"{path.name}: {module}"


def public_names() -> set[str]:
    import edgetam_model

    return set(edgetam_model.__all__)


def test_torch_free_files_load_without_torch() -> None:
    drawn = {f"training.{name}" for name in DRAWN}
    wanted = ", ".join(f"{MODEL}.{name}" for name in sorted(TORCH_FREE | drawn | HOST))
    script = f"import sys, {wanted}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


@pytest.mark.parametrize("adapter", TRANSLATION)
def test_translation_needs_no_torch_and_no_server(adapter: str) -> None:
    wanted = ", ".join(f"{adapter}.{name}" for name in TRANSLATION[adapter])
    unwanted = PLATFORM_PACKAGES | {"torch"}
    script = f"""
import sys, {wanted}
from edgetam_model import MaskResult, Prompt
assert not {unwanted!r} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_importing_does_nothing() -> None:
    """No environment read, no logging set up, no torch: the public face loads its parts when asked."""
    script = """
import logging, os, sys
read = []
class Watched(type(os.environ)):
    def __getitem__(self, key):
        if key.startswith("EDGETAM"): read.append(key)
        return super().__getitem__(key)
os.environ.__class__ = Watched
import edgetam_model
assert not read, read
assert not logging.getLogger().handlers
assert "torch" not in sys.modules
assert edgetam_model.Prompt(box=[0, 0, 1, 1]).box is not None
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_the_public_face_has_every_name_that_others_rely_on() -> None:
    import edgetam_model

    for name in edgetam_model.__all__:
        assert getattr(edgetam_model, name) is not None
    with pytest.raises(AttributeError, match="nothing_like_it"):
        edgetam_model.nothing_like_it  # noqa: B018


def test_files_and_functions_stay_small() -> None:
    """At most 450 lines a file and 60 a function, so that each is one idea and one step."""
    for package in (MODEL, *ADAPTERS):
        for path in sources(package):
            text = path.read_text()
            assert text.count("\n") <= 450, f"{path.name}: {text.count(chr(10))} lines"
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    length = (node.end_lineno or node.lineno) - node.lineno
                    assert length <= 60, f"{path.name}: {node.name} has {length} lines"


@pytest.mark.parametrize("path", sources("backend"), ids=lambda p: str(p.relative_to(ROOT)))
def test_web_and_queue_packages_stay_in_their_files(path: Path) -> None:
    """Flask at the one HTTP edge; Redis and RQ where the queue is."""
    own = str(path.relative_to(ROOT / "backend").with_suffix(""))
    packages = {module.partition(".")[0] for module in imports(path)}
    assert "flask" not in packages or own in ("app", "field/app")
    assert not packages & {"redis", "rq"} or own.startswith(("queue", "worker", "embedded_redis"))


@pytest.mark.parametrize("path", sources("cvat_function/video"), ids=lambda p: p.name)
def test_cvats_sdk_stays_in_its_file(path: Path) -> None:
    packages = {module.partition(".")[0] for module in imports(path)}
    assert not packages & {"cvat_sdk", "urllib3"} or path.name == "server.py"


@pytest.mark.parametrize("path", sources("cvat_function"), ids=lambda p: str(p.relative_to(ROOT)))
def test_cvats_packages_stay_in_their_files(path: Path) -> None:
    """cvat-sdk where CVAT is called; Redis in the tracker's store; Nuclio's SDK comes as an argument."""
    own = str(path.relative_to(ROOT / "cvat_function").with_suffix(""))
    packages = {module.partition(".")[0] for module in imports(path)}
    assert not packages & {"flask", "rq", "nuclio_sdk"}
    assert "redis" not in packages or own == "tracker/redis_states"
    assert "cvat_sdk" not in packages or own.startswith(("agent", "video/", "commands/"))

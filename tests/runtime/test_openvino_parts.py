"""OpenVINO computes what PyTorch does, and prepares every graph once for all processes."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from edgetam_model.errors import EdgeTAMError
from edgetam_model.masks import mask_box, mask_iou
from edgetam_model.model import EdgeTAM
from edgetam_model.parts.making import DTYPES, runtime_parts
from edgetam_model.parts.specs import (
    FRAME_ATTENTION,
    IMAGE_ENCODER,
    MASK_DECODER,
    MEMORY_ENCODER,
    OBJECT_ATTENTION,
    UNMASKED_DECODER,
    Slots,
)
from edgetam_model.prompts import Prompt
from edgetam_model.results import FrameResult
from edgetam_model.runtime.choosing import has_bf16_units
from edgetam_model.runtime.graphs import Graph
from edgetam_model.runtime.openvino_parts import OpenVinoBackend
from edgetam_model.runtime.static_parts import StaticParts
from edgetam_model.video_tracker import VideoTracker
from tests.models import tiny_model, windowed_model

DECODERS = (MASK_DECODER, UNMASKED_DECODER)
PARTS = (IMAGE_ENCODER, *DECODERS, MEMORY_ENCODER, FRAME_ATTENTION, OBJECT_ATTENTION)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Graphs that one test made serve the others."""
    return tmp_path_factory.mktemp("openvino")


def backend(model: EdgeTAM, folder: Path) -> OpenVinoBackend:
    return OpenVinoBackend(model, threads=1, folder=folder)


def inputs(model: EdgeTAM, graph: Graph, seed: int = 0) -> list[Tensor]:
    random = torch.Generator().manual_seed(seed)
    spec = graph.spec(model.config)
    return [
        torch.rand(one.shape, generator=random)
        if one.kind == "float32"
        else torch.zeros(one.shape, dtype=DTYPES[one.kind])
        for one in spec.inputs
    ]


@pytest.mark.parametrize("part", PARTS)
@torch.inference_mode()
def test_every_part(part: str, folder: Path) -> None:
    model = windowed_model()
    graph = Graph(part, Slots(objects=2))
    given = inputs(model, graph)
    got, wanted = backend(model, folder).run(graph, given), runtime_parts(model)[part](*given)
    for one, other in zip(got, wanted, strict=True):
        assert (one - other).abs().max() <= 5e-6 * other.abs().max()


@torch.inference_mode()
def test_half_the_precision_where_masks_bear_it(folder: Path) -> None:
    model = windowed_model()
    half = OpenVinoBackend(model, bf16=True, threads=1, folder=folder)
    for part in PARTS:
        graph = Graph(part, Slots(objects=2))
        given = inputs(model, graph)
        wanted = backend(model, folder).run(graph, given)
        same = all(torch.equal(*pair) for pair in zip(half.run(graph, given), wanted, strict=True))
        assert same == (part in (IMAGE_ENCODER, *DECODERS) or not has_bf16_units()), part


def tracked(model: EdgeTAM, frames: Sequence[np.ndarray], masks: dict[int, np.ndarray]) -> list[FrameResult]:
    with VideoTracker(model).open(list(frames)) as session:
        for object_id, mask in masks.items():
            session.add_prompt(0, object_id, Prompt(box=mask_box(mask)))
        return list(session.propagate())


def test_a_track_is_the_same(folder: Path) -> None:
    random = np.random.default_rng(0)
    ground = random.integers(0, 90, (96, 128, 3), dtype=np.uint8)
    frames, masks = [], dict[int, np.ndarray]()
    for step in range(6):
        frame = ground.copy()
        for object_id, (top, colour) in enumerate(((20, (230, 40, 40)), (55, (40, 60, 240)))):
            frame[top : top + 25, 30 + 4 * step : 60 + 4 * step] = colour
            if step == 0:
                masks[object_id] = (frame == colour).all(axis=2)
        frames.append(frame)
    model = tiny_model()
    wanted = tracked(model, frames, masks)
    model.runtime = StaticParts(model, backend(model, folder))
    try:
        got = tracked(model, frames, masks)
    finally:
        model.runtime = None
    overlaps = [
        mask_iou(one.objects[name].mask, other.objects[name].mask)
        for one, other in zip(got, wanted, strict=True)
        for name in masks
    ]
    assert len(overlaps) == 12
    assert min(overlaps) >= 0.9999
    assert any(other.objects[0].mask.any() for other in wanted)


def test_several_threads_share_a_graph(folder: Path) -> None:
    model, graph = tiny_model(), Graph(MEMORY_ENCODER, Slots())
    shared, results = backend(model, folder), dict[int, list[Tensor]]()
    given = {seed: inputs(model, graph, seed) for seed in range(6)}

    def run(seed: int) -> None:
        results[seed] = list(shared.run(graph, given[seed]))

    threads = [threading.Thread(target=run, args=(seed,)) for seed in given]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, found in results.items():
        assert torch.equal(found[0], shared.run(graph, given[seed])[0])
    assert not torch.equal(results[0][0], results[1][0])


SCRIPT = """
import sys, logging
from pathlib import Path
logging.basicConfig(level=logging.INFO, format="%(message)s")
from edgetam_model.parts.specs import MEMORY_ENCODER, Slots
from edgetam_model.runtime.graphs import Graph
from edgetam_model.runtime.openvino_parts import OpenVinoBackend
from tests.models import tiny_model
from tests.runtime.test_openvino_parts import inputs
graph = Graph(MEMORY_ENCODER, Slots())
backend = OpenVinoBackend(tiny_model(), threads=1, folder=Path(sys.argv[1]))
print(float(backend.run(graph, inputs(tiny_model(), graph))[0].sum()))
"""


def test_processes_that_start_together_prepare_once(tmp_path: Path) -> None:
    words = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    running = [
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert said[0][0] == said[1][0]
    assert sum(err.count("preparing memory_encoder") for _, err in said) == 1
    assert len(list(tmp_path.glob("*.xml"))) == 1


def test_other_weights_are_other_graphs(tmp_path: Path) -> None:
    graph = Graph(MEMORY_ENCODER, Slots())
    given = inputs(tiny_model(), graph)
    answers = [backend(tiny_model(seed), tmp_path).run(graph, given)[0] for seed in (0, 1)]
    assert len(list(tmp_path.glob("*.xml"))) == 2
    assert not torch.equal(*answers)


def test_a_graph_that_was_damaged_is_made_anew(tmp_path: Path) -> None:
    graph = Graph(MEMORY_ENCODER, Slots())
    given = inputs(tiny_model(), graph)
    wanted = backend(tiny_model(), tmp_path).run(graph, given)[0]
    (path,) = tmp_path.glob("*.xml")
    weights = path.with_suffix(".bin")
    for damaged in (path, weights):
        damaged.write_bytes(damaged.read_bytes()[:100])
        assert torch.equal(backend(tiny_model(), tmp_path).run(graph, given)[0], wanted), damaged.suffix


def test_what_cannot_be_prepared_is_told_in_words(tmp_path: Path) -> None:
    graph, file = Graph(MEMORY_ENCODER, Slots()), tmp_path / "file"
    file.touch()
    with pytest.raises(
        EdgeTAMError, match=r"OpenVINO cannot prepare memory_encoder in .*EDGETAM_RUNTIME=torch"
    ):
        backend(tiny_model(), file).run(graph, inputs(tiny_model(), graph))

"""Tasks that show several images: a list in one tag, and several tags. From pack to merge."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from backend.field.kit import Kit
from edgetam_model.cli import main
from tests.backend.field.conftest import desk_on
from tests.backend.field.kits import picture, rectangle, square
from tests.backend.field.studio import PROJECT, Studio, studio

_TOOLS = """<BrushLabels name="brush{0}" toName="image{0}" smart="false"><Label value="Ball"/></BrushLabels>
<RectangleLabels name="rect{0}" toName="image{0}"><Label value="{1}"/></RectangleLabels>"""
LIST = f'<View><Image name="image" valueList="$images"/>{_TOOLS.format("", "Post")}</View>'
TAGS = f"""<View><Image name="imageA" value="$a"/><Image name="imageB" value="$b"/>
{_TOOLS.format("A", "Post")}{_TOOLS.format("B", "Tree")}<Image name="plan" value="$plan"/></View>"""
PATHS = ("/data/upload/3/one.png", "/data/upload/3/two.png")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    """Two pictures of different sizes; the second one's square is two frames on."""
    with studio() as made:
        Image.fromarray(picture(0)).save(tmp_path / "one.png")
        Image.fromarray(picture(2)[:, :90]).save(tmp_path / "two.png")
        for path, name in zip(PATHS, ("one.png", "two.png"), strict=True):
            made.media[path] = (tmp_path / name).read_bytes()
        for name, text in {**made.environment, "EDGETAM_CACHE": str(tmp_path / "cache")}.items():
            monkeypatch.setenv(name, text)
        monkeypatch.setenv("EDGETAM_WEIGHTS", "default")
        yield made


def pack(site: Studio, out: Path, config: str, data: dict[str, Any], result: list[Any]) -> Kit:
    site.config = config
    site.tasks[1] = {"id": 1, "data": data}
    site.store(1, result, 101)
    assert main(["field", "pack", "--from", f"label-studio:{PROJECT}", "--out", str(out)]) == 0
    return Kit.open(out)


def clicked(kit: Kit) -> str:
    """The square of the second picture, by its new id."""
    x0, y0, x1, y1 = square(2)
    spec = {"points": [[(x0 + x1) / 2, (y0 + y1) / 2, 1]]}
    with desk_on(kit) as desk:
        view = desk.task(1)
        assert (view["kind"], view["frames"], view["sizes"]) == ("images", 2, [[96, 64], [90, 64]])
        made = desk.act(1, {"do": "prompt", "labels": ["Ball"], "frame": 1, "spec": spec})
        assert [one["first"] for one in made["objects"]] == [0, 1, 1]
        return str(made["object"])


def region(name: str, where: dict[str, Any]) -> dict[str, Any]:
    return {**rectangle(name), **where}


@pytest.mark.parametrize("several", ["list", "tags"])
def test_new_regions_stand_on_their_own_image(site: Studio, tmp_path: Path, several: str) -> None:
    if several == "list":
        data: dict[str, Any] = {"images": list(PATHS)}
        config, places = LIST, ({"item_index": 0}, {"item_index": 1})
    else:
        data = {"a": PATHS[0], "b": PATHS[1], "plan": PATHS[0]}
        config = TAGS
        places = tuple({"to_name": f"image{x}", "from_name": f"rect{x}"} for x in "AB")  # type: ignore[assignment]
    before = [region("first", places[0]), region("second", places[1])]
    before.append(region("elsewhere", {"to_name": "plan"}))
    kit = pack(site, tmp_path / "kit", config, data, before)
    name = clicked(kit)
    assert main(["field", "merge", str(kit.root)]) == 0
    result = site.annotations[101]["result"]
    assert result[:3] == before
    (made,) = result[3:]
    assert (made["id"], made["original_width"], made["original_height"]) == (name, 90, 64)
    assert (made["type"], made["value"]["brushlabels"]) == ("brushlabels", ["Ball"])
    wanted = places[1] if several == "list" else {"to_name": "imageB", "from_name": "brushB"}
    assert {key: made[key] for key in wanted} == wanted
    assert ("item_index" in made) == (several == "list")
    assert main(["field", "merge", str(kit.root)]) == 0
    assert site.writes == 1


def test_a_list_that_is_none_is_left_out(site: Studio, tmp_path: Path) -> None:
    site.tasks[2] = {"id": 2, "data": {"images": []}}
    site.tasks[3] = {"id": 3, "data": {"images": ["/data/upload/3/gone.png"]}}
    kit = pack(site, tmp_path / "kit", LIST, {"images": list(PATHS)}, [])
    assert [task.id for task in kit.manifest.tasks] == [1]

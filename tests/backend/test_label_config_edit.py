"""What is missing is added, once; all that was there stays, in its order and with its comments."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.label_config import parse_label_config
from backend.label_config_edit import ProjectKind, adapt, adapted_config, kind_of
from edgetam_model import InputError

KINDS: tuple[ProjectKind, ...] = ("video", "image")
OWN_VIDEO = """<View>
  <!-- our colours: <Label> -->
  <Labels name="tricks" toName="clip">
    <Label value="Player" background="#f00" hotkey="t"/>
    <Label value='Ball "2"'/>
  </Labels>
  <Video name="clip" value="$url" frameRate="12.5" />
  <VideoRectangle name="r" toName="clip"/>
</View>"""


def tags(xml: str) -> list[tuple[str, dict[str, str]]]:
    return [(element.tag, dict(element.attrib)) for element in ET.fromstring(xml).iter()]


@pytest.mark.parametrize("empty", ["", "  ", "<View/>", "<View></View>", "<View>\n</View>"])
def test_a_new_video_project_gets_the_button_and_the_command_box(empty: str) -> None:
    config = parse_label_config(adapted_config(empty, "video", ["Player", "Ball"]))
    setup = config.video
    assert setup is not None
    assert setup.object.key == "video"
    assert [control.labels for control in setup.classes] == [("Player", "Ball")]
    assert setup.action is not None
    assert setup.action.labels == ("Track",)
    assert setup.commands is not None
    assert setup.commands.attributes["perregion"] == "true"


def test_the_button_has_the_hotkey_t() -> None:
    assert '<Label value="Track" hotkey="t"/>' in adapted_config("", "video")


def test_a_new_image_project_prompts_with_points_first_and_answers_with_a_brush() -> None:
    config = parse_label_config(adapted_config("", "image", ["Cat"]))
    (image,) = config.images
    assert [(c.type, c.smart, c.labels) for c in config.controls_of(image.name)] == [
        ("brushlabels", False, ("Cat",)),
        ("keypointlabels", True, ("Cat",)),
        ("rectanglelabels", True, ("Cat",)),
    ]
    assert [control.name for control in config.outputs_for(image.name)] == ["brush"]


def test_an_own_video_config_keeps_everything_and_a_taken_hotkey() -> None:
    found = adapt(OWN_VIDEO, "video", ["Player", "Referee"])
    assert [line for line in OWN_VIDEO.splitlines() if line not in found.xml.splitlines()] == []
    setup = parse_label_config(found.xml).video
    assert setup is not None
    assert setup.object.name == "clip"
    assert setup.classes[0].labels == ("Player", 'Ball "2"', "Referee")
    assert '<Label value="Track" hotkey="g"/>' in found.xml
    assert found.changes == (
        "the labels Referee in tricks",
        "the label Track, hotkey g",
        "a box for commands at each region",
    )


def test_a_mask_tool_without_a_mark_is_marked_and_others_are_left_alone() -> None:
    xml = (
        '<View><Image name="i" value="$x"/>'
        '<BrushLabels name="b" toName="i"><Label value="Dog"/></BrushLabels>'
        '<PolygonLabels name="p" toName="i" smart="true"><Label value="Dog"/></PolygonLabels>'
        '<KeyPointLabels name="k" toName="i" smart="true"><Label value="Dog"/></KeyPointLabels></View>'
    )
    config = parse_label_config(adapted_config(xml, "image"))
    smart = {control.name: control.smart for control in config.controls}
    assert smart == {"b": False, "p": True, "k": True, "rect": True}
    assert [control.labels for control in config.controls if control.name == "rect"] == [("Dog",)]


def test_an_unlabelled_brush_gets_unlabelled_prompts() -> None:
    xml = (
        '<View><Image name="i" value="$x"/><Labels name="l" toName="i"><Label value="Dog"/></Labels>'
        '<Brush name="b" toName="i"/></View>'
    )
    config = parse_label_config(adapted_config(xml, "image", ["Cat"]))
    assert [(c.type, c.labels) for c in config.controls if c.name in {"kp", "rect", "l"}] == [
        ("keypoint", ()),
        ("rectangle", ()),
        ("labels", ("Dog", "Cat")),
    ]


def test_names_that_are_taken_are_numbered() -> None:
    xml = '<View><Text name="act" value="$t"/><Choices name="cmd" toName="act"/></View>'
    names = re.findall(r'name="([^"]+)"', adapted_config(xml, "video"))
    assert names == ["act", "cmd", "videoLabels", "act2", "video", "box", "cmd2"]


def test_labels_from_the_tasks_are_not_added_to() -> None:
    xml = OWN_VIDEO.replace('toName="clip">', 'toName="clip" value="$classes">', 1)
    assert "Referee" not in adapted_config(xml, "video", ["Referee"])


def test_labels_are_written_as_xml() -> None:
    labels = ["<b>&\"Ä'", "two  words"]
    setup = parse_label_config(adapted_config("", "video", labels)).video
    assert setup is not None
    assert setup.classes[0].labels == ("<b>&\"Ä'", "two words")


@pytest.mark.parametrize("label", ["", "  ", "a\0", "\ud800", "Track"])
def test_bad_labels_name_the_field(label: str) -> None:
    with pytest.raises(InputError) as caught:
        adapted_config("", "video", [label])
    assert caught.value.field == "labels"


@pytest.mark.parametrize(
    "xml",
    ["<View>", "text", "<!DOCTYPE a><View/>", '<View><Video name="a,b" value="$v"/></View>'],
)
def test_bad_configs_name_the_field(xml: str) -> None:
    with pytest.raises(InputError) as caught:
        adapted_config(xml, "video")
    assert caught.value.field == "label_config"


def test_the_kind_of_a_config() -> None:
    assert kind_of(parse_label_config(OWN_VIDEO)) == "video"
    assert kind_of(parse_label_config('<View><Image name="i" value="$i"/></View>')) == "image"
    assert kind_of(parse_label_config("<View/>")) is None


def configs() -> st.SearchStrategy[str]:
    """Configs as people write them: any case, quotes of both kinds, comments, nesting, odd letters."""
    texts = st.text("aä> '/&$t1", max_size=4)
    names = st.sampled_from(["video", "image", "act", "cmd", "box", "kp", "x y", "i>", "videoLabels"])
    kinds = st.sampled_from(
        [
            *("Video", "Image", "Text", "View", "Labels", "labels", "Label", "Choice", "VideoRectangle"),
            *("BrushLabels", "Brush", "PolygonLabels", "KeyPointLabels", "RectangleLabels", "Rectangle"),
            "TextArea",
        ]
    )
    keys = ["name", "toName", "value", "smart", "perRegion", "hotkey", "alias", "frameRate"]
    values = st.one_of(names, texts, st.sampled_from(["true", "false", "Track", "$video", "t", "i>,video"]))
    attributes = st.dictionaries(st.sampled_from(keys), values, max_size=5)

    def element(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.builds(write, kinds, attributes, st.lists(children, max_size=4), st.integers(0, 3))

    leaf = st.builds(write, kinds, attributes, st.just([]), st.integers(0, 3))
    noise = st.sampled_from(["<!-- <Video name='video'> -->", "\n", "<![CDATA[<a>]]>", "text", "<?pi a?>"])
    inside = st.recursive(leaf | noise, element, max_leaves=12)
    return st.builds(write, st.just("View"), attributes, st.lists(inside, max_size=8), st.integers(0, 3))


def write(tag: str, attributes: dict[str, str], children: list[str], style: int) -> str:
    quote = "'" if style % 2 else '"'
    escapes = {"&": "&amp;", "<": "&lt;", quote: "&#39;" if style % 2 else "&quot;"}
    written = "".join(
        f" {key}={quote}{''.join(escapes.get(c, c) for c in value)}{quote}"
        for key, value in attributes.items()
    )
    if not children:
        return f"<{tag}{written}{' ' * style}/>"
    gap = "\n  " if style > 1 else ""
    return f"<{tag}{written}>{gap}{gap.join(children)}{gap[:1]}</{tag}>"


@given(configs(), st.sampled_from(KINDS), st.lists(st.sampled_from(["Dog", "Ä & <", "t"]), max_size=3))
def test_whatever_the_config_all_stays_and_a_second_time_adds_nothing(
    xml: str, kind: ProjectKind, labels: list[str]
) -> None:
    found = adapt(xml, kind, labels)
    again = adapt(found.xml, kind, labels)
    assert (again.xml, again.changes) == (found.xml, ())
    assert (found.xml == xml.strip()) == (not found.changes)
    kept = iter(tags(found.xml))
    for tag, attributes in tags(xml):
        assert any(tag == new and attributes.items() <= given.items() for new, given in kept)
    letters = iter(found.xml)
    assert all(letter in letters for letter in xml.strip())  # comments and layout too
    config = parse_label_config(found.xml)
    if kind == "video":
        assert config.video is not None
        assert config.video.action is not None
        assert config.video.commands is not None
        assert config.video.classes
    else:
        assert all(control.smart is False for control in config.outputs_for(config.images[0].name))

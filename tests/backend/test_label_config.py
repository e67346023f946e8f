import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.label_config import DEFAULT_FRAME_RATE, LabelConfig, MediaObject, parse_label_config
from edgetam_model.errors import InputError

# A busy machine is no bug: neither the time of one example nor of making it counts.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
VIDEO = """
<View>
  <Labels name="videoLabels" toName="video"><Label value="Player"/><Label value="Ball"/></Labels>
  <Labels name="act" toName="video"><Label value="Track" hotkey="t"/></Labels>
  <Video name="video" value="$video" frameRate="$fps"/>
  <VideoRectangle name="box" toName="video"/>
  <TextArea name="cmd" toName="video" perRegion="true" placeholder="track 100 | back 50"/>
</View>
"""
IMAGE = """
<View>
  <Image name="image" value="$image" zoom="true"/>
  <BrushLabels name="brush" toName="image" smart="false">
    <Label value="Player"/><Label value="Ball"/>
  </BrushLabels>
  <BitmaskLabels name="bitmask" toName="image" smart="false"><Label value="Player"/></BitmaskLabels>
  <PolygonLabels name="poly" toName="image" smart="false" tolerance="2.5">
    <Label value="Player"/>
  </PolygonLabels>
  <KeyPointLabels name="kp" toName="image" smart="true"><Label value="Player"/></KeyPointLabels>
  <RectangleLabels name="rect" toName="image" smart="true"><Label value="Player"/></RectangleLabels>
</View>
"""


def view(inner: str) -> LabelConfig:
    return parse_label_config(f'<View><Image name="image" value="$image"/>{inner}</View>')


def outputs(inner: str) -> list[str]:
    return [control.name for control in view(inner).outputs_for("image")]


def test_controls_keep_everything_that_the_config_says() -> None:
    brush, _, poly, keypoint, _ = parse_label_config(IMAGE).controls
    assert (brush.type, brush.name, brush.objects, brush.kind) == (
        "brushlabels",
        "brush",
        ("image",),
        "brush",
    )
    assert (brush.labels, brush.smart, brush.labelled, brush.dynamic) == (
        ("Player", "Ball"),
        False,
        True,
        False,
    )
    assert keypoint.smart is True
    assert poly.number("Tolerance", 1) == 2.5
    assert brush.number("tolerance", 1) == 1


def test_names_of_tags_and_attributes_count_in_any_case() -> None:
    config = parse_label_config(
        '<VIEW><IMAGE NAME="i" VALUE="$a"/><brushlabels name="b" toname="i" Smart="FALSE"><LABEL Value="x"/>'
        "</brushlabels></VIEW>"
    )
    (control,) = config.outputs_for("i")
    assert (control.type, control.labels, control.smart) == ("brushlabels", ("x",), False)


def test_nested_labels_aliases_and_duplicates() -> None:
    config = view(
        '<Labels name="l" toName="image"><View><Label value="a"/><Label value="b" alias="bee"/></View>'
        '<Label value="a"/><Label/></Labels>'
        '<Choices name="c" toName="image"><Choice value="top"><Choice value="inner"/></Choice></Choices>'
        '<Label value="nobody\'s"/>'
    )
    assert [control.labels for control in config.controls] == [("a", "bee"), ("top", "inner")]


def test_a_control_may_label_several_objects() -> None:
    config = parse_label_config(
        '<View><Image name="a" value="$a"/><Image name="b" value="$b"/>'
        '<Polygon name="p" toName="a, b"/></View>'
    )
    assert config.controls_of("a") == config.controls_of("b") == config.controls
    assert [image.name for image in config.images] == ["a", "b"]
    assert config.object("b") == config.images[1]
    assert config.object("c") is None
    assert config.control("c") is None


def test_outputs_are_the_tools_that_are_not_smart() -> None:
    config = parse_label_config(IMAGE)
    assert [control.name for control in config.outputs_for("image")] == ["brush", "bitmask", "poly"]
    assert config.outputs_for("elsewhere") == ()


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        # The published SAM example: only the prompts are marked.
        ('<Brush name="b" toName="image"/><KeyPoint name="k" toName="image" smart="true"/>', ["b"]),
        # Clicks that give boxes.
        ('<Rectangle name="r" toName="image"/><KeyPoint name="k" toName="image" smart="true"/>', ["r"]),
        # Nothing is marked: what draws masks is the output.
        (
            '<KeyPoint name="k" toName="image"/><Rectangle name="r" toName="image"/>'
            '<Bitmask name="m" toName="image"/><Polygon name="p" toName="image"/>',
            ["m", "p"],
        ),
        ('<KeyPoint name="k" toName="image"/><Rectangle name="r" toName="image"/>', ["r"]),
        # Everything is smart.
        (
            '<Polygon name="p" toName="image" smart="true"/><KeyPoint name="k" toName="image" smart="true"/>',
            ["p"],
        ),
        # The only tool is prompt and output.
        ('<RectangleLabels name="r" toName="image" smart="true"/>', ["r"]),
        ('<KeyPoint name="k" toName="image"/>', ["k"]),
        # Tools that we do not write.
        ('<Ellipse name="e" toName="image"/><Choices name="c" toName="image"/>', []),
    ],
)
def test_outputs_where_the_config_does_not_say(inner: str, expected: list[str]) -> None:
    assert outputs(inner) == expected


def test_the_labels_of_unlabelled_tools() -> None:
    config = view(
        '<Brush name="b" toName="image"/><Labels name="one" toName="image"><Label value="x"/></Labels>'
        '<Labels name="two" toName="image"><Label value="y"/></Labels>'
    )
    found = [config.labels_control("image", label) for label in (None, "x", "y", "z")]
    assert [control and control.name for control in found] == ["one", "one", "two", None]
    dynamic = view('<Labels name="d" toName="image" value="$labels"/>').labels_control("image", "z")
    assert dynamic is not None
    assert dynamic.dynamic


def test_the_video_controls() -> None:
    setup = parse_label_config(VIDEO).video
    assert setup is not None
    assert (setup.object.name, setup.rectangle.name) == ("video", "box")
    assert [control.name for control in setup.classes] == ["videoLabels"]
    assert setup.action is not None
    assert setup.action.name == "act"
    assert setup.commands is not None
    assert setup.commands.name == "cmd"


def test_a_video_without_the_button() -> None:
    video = '<Video name="v" value="$v"/><VideoRectangle name="r" toName="v"/>'
    plain = parse_label_config(f"<View>{video}</View>").video
    assert plain is not None
    assert (plain.classes, plain.action, plain.commands) == ((), None, None)
    mixed = parse_label_config(
        f'<View>{video}<Labels name="l" toName="v"><Label value="Train"/><Label value="Track"/></Labels>'
        '<TextArea name="t" toName="v"/></View>'
    ).video
    assert mixed is not None
    assert ([c.name for c in mixed.classes], mixed.action, mixed.commands) == (["l"], None, None)
    alone = parse_label_config(
        f'<View>{video}<Labels name="l" toName="v"><Label value="Track"/></Labels></View>'
    ).video
    assert alone is not None
    assert alone.action is not None
    assert alone.classes == ()
    assert parse_label_config('<View><Video name="v" value="$v"/></View>').video is None
    assert parse_label_config(IMAGE).video is None


@pytest.mark.parametrize(
    ("given_rate", "data", "expected"),
    [
        ("25", {}, 25),
        (" 29.97 ", {}, 29.97),
        ("0.04", {}, 25),
        ("$fps", {"fps": 30}, 30),
        ("$fps", {"fps": "12.5"}, 12.5),
        ("$meta.fps", {"meta": {"fps": 50}}, 50),
        ("$meta.fps", {"meta.fps": 51}, 51),
        ("$fps", {}, DEFAULT_FRAME_RATE),
        ("$fps", {"fps": [1]}, DEFAULT_FRAME_RATE),
        ("$fps", {"fps": 10**400}, DEFAULT_FRAME_RATE),
        ("$a.b", {"a": 3}, DEFAULT_FRAME_RATE),
        ("0", {}, DEFAULT_FRAME_RATE),
        ("-5", {}, DEFAULT_FRAME_RATE),
        ("1e-320", {}, DEFAULT_FRAME_RATE),
        ("nan", {}, DEFAULT_FRAME_RATE),
        ("fast", {}, DEFAULT_FRAME_RATE),
    ],
)
def test_frame_rates(given_rate: str, data: dict[str, object], expected: float) -> None:
    for name in ("frameRate", "framerate"):
        (video,) = parse_label_config(f'<Video name="v" value="$v" {name}="{given_rate}"/>').objects
        assert video.frame_rate(data) == pytest.approx(expected)


def test_a_video_without_a_rate_has_label_studios() -> None:
    assert MediaObject("video", "v", "$v").frame_rate({}) == 24


def test_media_of_a_task() -> None:
    config = view('<Image name="list" valueList="$pages"/><Image name="fixed" value="https://a/b.png"/>')
    image, pages, fixed = config.images
    data = {"image": "/data/upload/1/a.jpg", "pages": ["p0", "p1"]}
    assert image.reference(data) == "/data/upload/1/a.jpg"
    assert pages.reference(data, 1) == "p1"
    assert fixed.reference({}) == "https://a/b.png"
    assert (image.key, fixed.key) == ("image", None)
    for item, task, index in ((image, {}, 0), (image, {"image": 3}, 0), (pages, data, 2), (pages, data, -1)):
        with pytest.raises(InputError, match=r"task\.data\."):
            item.reference(task, index)


@pytest.mark.parametrize(
    "xml",
    [
        "",
        "no xml",
        "<View>",
        "<View></Other>",
        "<View/><View/>",
        '<View a="1" a="2"/>',
        "<View>\0</View>",
        "<View>\ud800</View>",
        "<View>&unknown;</View>",
        "<a>" * 101 + "</a>" * 101,
        "<View>" + " " * 1_000_000 + "</View>",
        '<!DOCTYPE View [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><View>&b;</View>',
        '<!DOCTYPE View [<!ENTITY f SYSTEM "file:///etc/passwd">]><View>&f;</View>',
        '<!DOCTYPE View SYSTEM "http://example.com/x.dtd"><View/>',
        None,
        b"<View/>",
        {"xml": "<View/>"},
    ],
)
def test_hostile_and_broken_configs_are_refused(xml: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_label_config(xml)
    assert caught.value.field == "label_config"


def test_a_declared_encoding_does_not_matter() -> None:
    config = parse_label_config(
        '\n<?xml version="1.0" encoding="utf-16"?>\n<View><Image name="ä" value="$b"/></View>'
    )
    assert config.images[0].name == "ä"


@pytest.mark.parametrize("tolerance", ["wide", "-1", "nan", "inf"])
def test_an_attribute_that_must_be_a_number(tolerance: str) -> None:
    (control,) = view(f'<Polygon name="p" toName="image" tolerance="{tolerance}"/>').controls
    with pytest.raises(InputError, match=r"label_config\.p\.tolerance"):
        control.number("tolerance", 1)


names = st.sampled_from(
    ["View", "Image", "Video", "Labels", "Label", "Choice", "BrushLabels", "VideoRectangle"]
)
keys = st.sampled_from(["name", "toName", "value", "valueList", "smart", "alias", "frameRate", "perRegion"])
texts = st.sampled_from(["a", "b", "a,b", "$a", "$", "", ",", "Track", "true", "1"])


def tag(name: str, attributes: dict[str, str], inner: list[str]) -> str:
    written = "".join(f' {key}="{value}"' for key, value in attributes.items())
    return f"<{name}{written}>{''.join(inner)}</{name}>"


trees = st.recursive(
    st.just(""),
    lambda inner: st.builds(
        tag, names, st.dictionaries(keys, texts, max_size=4), st.lists(inner, max_size=4)
    ),
    max_leaves=12,
)


@unhurried
@given(trees)
def test_every_document_of_these_tags_is_read(inner: str) -> None:
    config = parse_label_config(f"<View>{inner}</View>")
    for item in config.objects:
        assert set(config.outputs_for(item.name)) <= set(config.controls_of(item.name))
        assert item.frame_rate({}) > 0
    if config.video is not None:
        assert config.video.object.type == "video"


@unhurried
@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_label_config(text.replace("<", ""))

from __future__ import annotations

import pytest

from cvat_function.settings import Settings, read_settings, table
from edgetam_model import InputError


def test_nothing_set_gives_the_defaults() -> None:
    assert read_settings({}) == Settings()
    assert read_settings({"EDGETAM_CVAT_REPLY": "", "PATH": "/bin", "EDGETAM_TOKEN": "x"}) == Settings()


def test_every_setting_is_read() -> None:
    settings = read_settings(
        {
            "EDGETAM_WEIGHTS": "project-7/v0003",
            "EDGETAM_DEVICE": "cuda:1",
            "EDGETAM_QUALITY": "fast",
            "EDGETAM_CVAT_REPLY": "shapes",
            "EDGETAM_CVAT_LOST": "null",
            "EDGETAM_CVAT_IMAGES": "9",
            "EDGETAM_CVAT_MAX_IMAGE_BYTES": "1000",
            "EDGETAM_CVAT_MAX_OBJECTS": "3",
            "EDGETAM_MAX_PIXELS": "2000",
        }
    )
    assert (settings.weights, settings.device, settings.reply) == ("project-7/v0003", "cuda:1", "shapes")
    assert settings.quality == "fast"
    assert (settings.lost, settings.images, settings.max_objects) == ("null", 9, 3)
    assert (settings.limits.max_bytes, settings.limits.max_pixels) == (1000, 2000)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EDGETAM_CVAT_REPLY", "both"),
        ("EDGETAM_CVAT_LOST", "none"),
        ("EDGETAM_QUALITY", "best"),
        ("EDGETAM_CVAT_IMAGES", "0"),
        ("EDGETAM_CVAT_IMAGES", "many"),
        ("EDGETAM_MAX_PIXELS", "-1"),
    ],
)
def test_a_wrong_value_names_its_variable(name: str, value: str) -> None:
    with pytest.raises(InputError) as caught:
        read_settings({name: value})
    assert caught.value.field == name
    assert value in caught.value.problem


def test_the_table_has_every_variable_and_its_default() -> None:
    rows = table()
    assert len({row.name for row in rows}) == len(Settings.model_fields)
    for row in rows:
        assert row.name.startswith("EDGETAM_")
        assert row.meaning
        assert read_settings({row.name: row.default}) == Settings()

"""Settings from an environment: names, fallbacks, units, and what is said of a bad value."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.settings import Settings
from edgetam_model import ApartOptions, InputError


def test_nothing_set_gives_the_defaults_and_two_readings_are_equal() -> None:
    settings = Settings.from_env({"PATH": "/bin", "LABEL_STUDIO_URL": ""})
    assert settings == Settings() == Settings.from_env({})
    assert (settings.port, settings.answer_seconds, settings.label_studio_url) == (9090, 2.0, None)


def test_values_are_read_with_units_lists_and_switches(tmp_path: Path) -> None:
    settings = Settings.from_env(
        {
            "LABEL_STUDIO_URL": "http://ls.test:8080/",
            "PORT": "9191",
            "LOG_LEVEL": "debug",
            "EDGETAM_ALLOWED_HOSTS": "minio.lan, 10.0.0.7:9000,*.corp.test",
            "EDGETAM_MEDIA_ROOTS": f"{tmp_path}{os.pathsep}/srv/media",
            "EDGETAM_MEDIA_CACHE_BYTES": "3GiB",
            "EDGETAM_MAX_PIXELS": "1000",
            "EDGETAM_OFFLINE": "1",
            "EDGETAM_FIT_PROMOTE": "0",
            "EDGETAM_FIT_MODE": "decoder",
            "MODEL_DIR": "/srv/models",
        }
    )
    assert settings.label_studio_url == "http://ls.test:8080"
    assert (settings.port, settings.log_level, settings.offline) == (9191, "DEBUG", True)
    assert settings.allowed_hosts == ("minio.lan", "10.0.0.7:9000", "*.corp.test")
    assert settings.media_roots == (tmp_path, Path("/srv/media"))
    assert settings.media_cache_bytes == 3 * 2**30
    assert settings.media_limits().max_pixels == 1000
    assert (settings.fit_promote, settings.fit_mode, settings.fit_after) == (False, "decoder", 20)
    assert settings.state_dir == Path("/srv/models")
    assert not Settings.from_env({"EDGETAM_OFFLINE": "0"}).offline


def test_older_names_count_when_the_first_is_not_set() -> None:
    assert Settings.from_env({"LABEL_STUDIO_HOST": "http://old.test"}).label_studio_url == "http://old.test"
    both = {"LABEL_STUDIO_HOST": "http://old.test", "LABEL_STUDIO_URL": "http://new.test"}
    assert Settings.from_env(both).label_studio_url == "http://new.test"


def test_the_cache_follows_the_platform_unless_it_is_named() -> None:
    assert Settings.from_env({"XDG_CACHE_HOME": "/x"}).cache == Path("/x/edgetam")
    named = Settings.from_env({"XDG_CACHE_HOME": "/x", "EDGETAM_CACHE": "/y"})
    assert named.media_cache_dir == Path("/y/media")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "many"),
        ("PORT", "70000"),
        ("LABEL_STUDIO_URL", "ls.test:8080"),
        ("LABEL_STUDIO_URL", "http://user:hunter2@ls.test"),
        ("LABEL_STUDIO_HOST", "ftp://ls.test"),
        ("LOG_LEVEL", "LOUD"),
        ("EDGETAM_ANSWER_SECONDS", "100"),
        ("EDGETAM_ANSWER_SECONDS", "nan"),
        ("EDGETAM_QUEUE_LIMIT", "0"),
        ("EDGETAM_MEDIA_CACHE_BYTES", "plenty"),
        ("EDGETAM_ALLOWED_HOSTS", "good.test,http://bad.test"),
        ("EDGETAM_KEYFRAME_TOLERANCE", "-1"),
        ("BASIC_AUTH_USER", "someone"),
        ("EDGETAM_FIT_AFTER", "-1"),
        ("EDGETAM_FIT_MINUTES", "0"),
        ("EDGETAM_FIT_MODE", "everything"),
        ("EDGETAM_FIT_MINIMUM", "1"),
        ("EDGETAM_DECODE", "somewhere"),
        ("EDGETAM_DECODE_MEMORY", "1MiB"),
        ("EDGETAM_DECODE_SECONDS", "0"),
    ],
)
def test_a_bad_value_names_its_variable_and_stays_secret(name: str, value: str) -> None:
    with pytest.raises(InputError) as caught:
        Settings.from_env({name: value})
    assert caught.value.field == name
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_files_are_decoded_apart_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {"EDGETAM_DECODE_MEMORY": "2GiB", "EDGETAM_DECODE_SECONDS": "9"}
    assert Settings.from_env(chosen).apart() == ApartOptions(memory_bytes=2 << 30, seconds=9)
    assert Settings.from_env({"EDGETAM_DECODE": "inside"}).apart() is None
    monkeypatch.setattr("sys.platform", "win32")
    assert Settings.from_env(chosen).apart() is None


def test_secrets_hide_themselves() -> None:
    names = ("LABEL_STUDIO_API_KEY", "BASIC_AUTH_PASS", "EDGETAM_TOKEN", "REDIS_URL")
    settings = Settings.from_env(dict.fromkeys(names, "hunter2") | {"BASIC_AUTH_USER": "me"})
    assert "hunter2" not in repr(settings) + str(settings) + settings.model_dump_json()
    assert settings.token
    assert settings.token.get_secret_value() == "hunter2"


def test_the_reference_names_every_field_once_with_a_meaning() -> None:
    rows = Settings.reference()
    assert len({row.name for row in rows}) == len(rows) == len(Settings.model_fields)
    assert all(row.meaning for row in rows)
    shown = {row.name: row.default for row in rows}
    assert (shown["PORT"], shown["EDGETAM_ANSWER_SECONDS"], shown["EDGETAM_OFFLINE"]) == ("9090", "2.0", "0")
    assert shown["EDGETAM_MEDIA_CACHE_BYTES"] == "20.0GiB"
    assert str(Path.home()) not in str(rows)


@given(st.dictionaries(st.sampled_from([row.name for row in Settings.reference()]), st.text(), max_size=4))
def test_any_environment_gives_settings_or_a_named_variable(environ: dict[str, str]) -> None:
    fields = []
    try:
        Settings.from_env(environ)
    except InputError as error:
        fields = [error.field]
    assert set(fields) <= {*environ, "BASIC_AUTH_USER"}  # the user may be what is missing


def test_reading_settings_loads_neither_torch_nor_a_decoder() -> None:
    script = "import sys, backend.settings as s; s.Settings.reference(); "
    script += "assert not {'torch', 'av', 'cv2'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], check=True)

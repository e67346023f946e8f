"""Every kind of data value that a task can hold, from uploads to traps."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from backend import media
from backend.fetching import FetchLimits
from backend.label_studio import LabelStudio
from backend.media import MediaIntake, media_kind
from backend.settings import Settings
from edgetam_model import EdgeTAMError, MediaError
from tests.backend.web_fixtures import Answer, Asked, Route, WebServer, local_fetcher, serving

KEY = SecretStr("0123456789abcdef")
TOKEN = "Token 0123456789abcdef"
PNG = b"\x89PNG\r\n\x1a\n and so on"
MP4 = b"\0\0\0\x20ftypisom and so on" + bytes(1000)


@pytest.fixture
def web() -> Iterator[WebServer]:
    with serving() as server:
        yield server


@pytest.fixture
def other() -> Iterator[WebServer]:
    with serving() as server:
        yield server


@pytest.fixture
def config(web: WebServer, tmp_path: Path) -> Settings:
    return Settings(label_studio_url=web.url, label_studio_api_key=KEY, cache=tmp_path / "cache")


def intake(config: Settings, *servers: WebServer) -> MediaIntake:
    fetcher = local_fetcher(*servers)
    return MediaIntake(config, LabelStudio.from_settings(config, fetcher), fetcher)


def with_token(answer: Answer) -> Route:
    """What only the token opens."""
    return lambda asked: answer if asked.headers.get("Authorization") == TOKEN else Answer(status=401)


@pytest.mark.parametrize(
    "value",
    [
        "/data/upload/1/ab-clip.mp4",
        "data/upload/1/ab-clip.mp4",
        "/upload/1/ab-clip.mp4",
        "{ls}/data/upload/1/ab-clip.mp4",
    ],
)
def test_uploads_are_fetched_with_the_token(web: WebServer, config: Settings, value: str) -> None:
    web.routes["/data/upload/1/ab-clip.mp4"] = with_token(Answer(MP4))
    with intake(config, web).open(value.format(ls=web.url)) as file:
        assert (file.path.read_bytes(), file.kind) == (MP4, "video")
        assert "ab-clip.mp4" in file.source


def test_label_studios_own_name_for_itself_leads_to_where_it_is(web: WebServer, config: Settings) -> None:
    """In a compose file LABEL_STUDIO_URL is http://label-studio:8080, in task data http://localhost:8080."""
    web.routes["/data/local-files/"] = with_token(Answer(PNG))
    value = "http://localhost:8080/data/local-files/?d=a/photo"
    with intake(config, web).open(value, hostname="http://localhost:8080/") as file:
        assert file.kind == "image"
    assert web.paths() == ["/data/local-files/?d=a/photo"]
    with pytest.raises(MediaError, match="loopback"), intake(config, web).open(value):
        pass


def test_what_is_not_media_of_label_studio_is_asked_at_its_own_host(
    web: WebServer, other: WebServer, config: Settings
) -> None:
    other.routes["/static/photo"] = Answer(PNG)
    with intake(config, web, other).open(f"{other.url}/static/photo", hostname=other.url) as file:
        assert file.kind == "image"
    assert "Authorization" not in other.asked[0].headers
    assert not web.asked


def test_an_open_address_is_fetched_without_the_token(
    web: WebServer, other: WebServer, config: Settings
) -> None:
    other.routes["/photo"] = Answer(PNG)
    with intake(config, web, other).open(f"{other.url}/photo?sign=hunter2") as file:
        assert file.kind == "image"
        assert "hunter2" not in str(file)
    assert "Authorization" not in other.asked[0].headers


def test_the_shared_folder_is_read_in_place(web: WebServer, config: Settings, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    (shared / "a").mkdir(parents=True)
    (shared / "a" / "my clip").write_bytes(MP4)
    config = config.model_copy(update={"local_files_document_root": shared})
    for value in (
        "/data/local-files/?d=a/my%20clip",
        "/data/local-files?d=/a/my+clip",
        f"{web.url}/data/local-files/?d=a%2Fmy%20clip",
    ):
        with intake(config, web).open(value) as file:
            assert file.path == shared / "a" / "my clip"
    assert not web.asked
    web.routes["/data/local-files/"] = with_token(Answer(PNG))
    with intake(config, web).open("/data/local-files/?d=a/elsewhere") as file:
        assert file.path.read_bytes() == PNG


@pytest.mark.parametrize(
    "named", ["../secret", "a/../../secret", "link", "folder/secret", "%2e%2e/secret", "..//secret"]
)
def test_nothing_outside_the_shared_folder_is_read(
    web: WebServer, config: Settings, tmp_path: Path, named: str
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (tmp_path / "secret").write_bytes(PNG)
    (shared / "link").symlink_to(tmp_path / "secret")
    (shared / "folder").symlink_to(tmp_path)
    config = config.model_copy(update={"local_files_document_root": shared})
    with (
        pytest.raises(MediaError, match="outside"),
        intake(config, web).open(f"/data/local-files/?d={named}"),
    ):
        pass
    assert not web.asked


@pytest.mark.parametrize(
    "uri", ["s3://bucket/a clip.mp4", "gs://bucket/clip?x", "azure-blob://container/ä.mp4"]
)
def test_cloud_storage_goes_through_label_studio(
    web: WebServer, other: WebServer, config: Settings, uri: str
) -> None:
    def resolve(asked: Asked) -> Answer:
        encoded = unquote(asked.path.partition("fileuri=")[2])
        assert base64.urlsafe_b64decode(encoded).decode() == uri
        return Answer(status=303, headers={"Location": f"{other.url}/signed?signature=hunter2"})

    web.routes["/tasks/7/resolve/"] = resolve
    other.routes["/signed"] = Answer(MP4)
    with intake(config, web, other).open(uri, task_id=7) as file:
        assert file.kind == "video"
        assert "hunter2" not in str(file)
    assert (web.asked[0].headers["Authorization"], other.asked[0].headers.get("Authorization")) == (
        TOKEN,
        None,
    )
    with pytest.raises(MediaError, match="task's id"), intake(config, web, other).open(uri):
        pass


def test_what_label_studio_has_resolved_already_is_asked_for(web: WebServer, config: Settings) -> None:
    web.routes["/tasks/7/presign/"] = with_token(Answer(PNG))
    with intake(config, web).open("/tasks/7/presign/?fileuri=czM6Ly9i") as file:
        assert file.kind == "image"


def test_storage_inside_the_network_needs_the_allow_list(
    web: WebServer, other: WebServer, config: Settings
) -> None:
    web.routes["/tasks/7/resolve/"] = Answer(status=303, headers={"Location": f"{other.url}/signed?hunter2"})
    with (
        pytest.raises(MediaError, match="EDGETAM_ALLOWED_HOSTS") as caught,
        intake(config, web).open("s3://b/c", task_id=7),
    ):
        pass
    assert f"127.0.0.1:{other.port}" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert not other.asked


def test_the_token_of_setup_serves_where_none_is_configured(web: WebServer, tmp_path: Path) -> None:
    web.routes["/data/upload/1/a"] = with_token(Answer(PNG))
    bare = intake(Settings(cache=tmp_path), web)
    with bare.open("/data/upload/1/a", hostname=web.url, token=KEY) as file:
        assert file.kind == "image"
    with pytest.raises(MediaError, match="LABEL_STUDIO_URL"), bare.open("/data/upload/1/a"):
        pass


def test_a_hostname_that_somebody_made_up_gets_no_configured_token(
    web: WebServer, other: WebServer, config: Settings
) -> None:
    other.routes["/data/upload/1/a"] = Answer(PNG)
    web.routes["/data/upload/1/a"] = with_token(Answer(PNG))
    with intake(config, web, other).open(f"{other.url}/data/upload/1/a", hostname=other.url, token=KEY):
        pass
    assert not other.asked
    assert len(web.asked) == 1


def test_a_made_up_hostname_does_not_open_the_network(web: WebServer, tmp_path: Path) -> None:
    bare = intake(Settings(cache=tmp_path))
    with (
        pytest.raises(MediaError, match="loopback"),
        bare.open("/data/upload/1/a", hostname=web.url, token=KEY),
    ):
        pass
    assert not web.asked


@pytest.mark.parametrize(
    "value",
    [
        *(None, 5, {"a": 1}, [], "", "  ", "ftp://example.org/a", "file:///etc/passwd", "concat:/etc/passwd"),
        *(
            "http://169.254.169.254/latest/meta-data",
            "http://2130706433/",
            "http://[::ffff:127.0.0.1]/",
            "//x/y",
        ),
        *(
            "/etc/passwd",
            "../etc/passwd",
            "C:\\Windows\\win.ini",
            "a\0b",
            "/data/uploads/1/a",
            "/tasks/7/delete/",
        ),
        *(
            "data:",
            "data:image/png;base64,!!",
            "data:text/html,<script>",
            "data:video/mp4;base64,AAAAIGZ0eXBpc29t",
        ),
    ],
)
def test_what_may_not_be_read_is_refused(web: WebServer, config: Settings, value: object) -> None:
    with pytest.raises(MediaError), intake(config, web).open(value):
        pass
    assert not web.asked


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "LABEL_STUDIO_API_KEY"), (403, "see the project"), (404, "not there"), (500, "answered 500")],
)
def test_a_refusal_is_told_in_words(web: WebServer, config: Settings, status: int, words: str) -> None:
    web.routes["/data/upload/1/a"] = Answer(b"<html>no</html>", status)
    with pytest.raises(MediaError, match=words), intake(config, web).open("/data/upload/1/a"):
        pass


def test_a_web_page_is_no_media(web: WebServer, config: Settings) -> None:
    web.routes["/data/upload/1/a.mp4"] = Answer(b"\n<!doctype html>")
    with pytest.raises(MediaError, match="web page"), intake(config, web).open("/data/upload/1/a.mp4"):
        pass


def test_files_below_the_roots_are_read(config: Settings, tmp_path: Path) -> None:
    roots = (tmp_path / "a", tmp_path / "b")
    for root in roots:
        root.mkdir()
    (roots[1] / "clip.mp4").write_bytes(MP4)
    (roots[1] / "empty.mp4").write_bytes(b"")
    (roots[0] / "inside").symlink_to(roots[0] / "photo")
    (roots[0] / "photo").write_bytes(PNG)
    (roots[0] / "outside").symlink_to(tmp_path / "secret")
    (tmp_path / "secret").write_bytes(PNG)
    os.mkfifo(roots[0] / "pipe")
    local = intake(config.model_copy(update={"media_roots": roots}))
    for value in (str(roots[1] / "clip.mp4"), "clip.mp4"):
        with local.open(value) as file:
            assert (file.path, file.kind) == (roots[1] / "clip.mp4", "video")
    with local.open("inside") as file:
        assert file.path == roots[0] / "photo"
    for value in ("outside", "../secret", str(tmp_path / "secret"), "pipe", "/etc/passwd", ".", "empty.mp4"):
        with pytest.raises(MediaError), local.open(value):
            pass
    told = []
    for value in (str(tmp_path / "secret"), str(tmp_path / "missing")):
        with pytest.raises(MediaError) as caught, local.open(value):
            pass
        told.append(str(caught.value))
    assert told[0] == told[1]


def test_a_file_over_the_limit_is_refused_wherever_it_is(
    web: WebServer, config: Settings, tmp_path: Path
) -> None:
    (tmp_path / "clip").write_bytes(MP4)
    small = config.model_copy(update={"media_roots": (tmp_path,), "max_media_bytes": 100})
    with pytest.raises(MediaError, match="more than the limit"), intake(small).open("clip"):
        pass


def test_an_inline_image_is_read_and_bounded(config: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    value = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    with intake(config).open(value) as file:
        assert (file.path.read_bytes(), file.kind, file.source) == (PNG, "image", "inline image")
    with intake(config).open("data:image/png,%89PNG%0D%0A") as file:
        assert file.path.read_bytes() == PNG[:6]
    monkeypatch.setattr(media, "MAX_INLINE_BYTES", 10)
    with pytest.raises(MediaError, match="10 bytes at most"), intake(config).open(value):
        pass


def test_a_click_after_a_click_does_not_ask_again(
    web: WebServer, config: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.routes["/data/upload/1/a"] = with_token(Answer(PNG, headers={"ETag": '"1"'}))
    files = intake(config, web)
    for _ in range(3):
        with files.open("/data/upload/1/a"):
            pass
    assert len(web.asked) == 1
    monkeypatch.setattr(media, "FRESH_S", 0.0)
    web.routes["/data/upload/1/a"] = with_token(Answer(PNG + b"new", headers={"ETag": '"2"'}))
    with files.open("/data/upload/1/a") as file:
        assert file.path.read_bytes() == PNG + b"new"
    web.routes["/data/upload/1/a"] = Answer(status=401)
    with pytest.raises(MediaError, match="401"), files.open("/data/upload/1/a"):
        pass


def test_what_one_token_opened_is_not_given_to_another(web: WebServer, tmp_path: Path) -> None:
    web.routes["/data/upload/1/a"] = with_token(Answer(PNG))
    files = intake(Settings(cache=tmp_path), web)
    with files.open("/data/upload/1/a", hostname=web.url, token=KEY):
        pass
    stranger = SecretStr("another")
    with (
        pytest.raises(MediaError, match="401"),
        files.open("/data/upload/1/a", hostname=web.url, token=stranger),
    ):
        pass


def test_ten_requests_for_one_file_download_it_once(web: WebServer, config: Settings) -> None:
    """The others only see the head of an answer, which is too long to fit into the buffers of a socket."""
    content = MP4 + bytes(2**24)
    web.routes["/data/upload/1/a"] = with_token(Answer(content))
    fetcher = local_fetcher(web, limits=FetchLimits(2**25))
    files = MediaIntake(config, LabelStudio.from_settings(config, fetcher), fetcher)

    def size(_: int) -> int:
        with files.open("/data/upload/1/a") as file:
            return file.path.stat().st_size

    with ThreadPoolExecutor(10) as pool:
        assert set(pool.map(size, range(10))) == {len(content)}
    assert web.answered == ["/data/upload/1/a"]


HEADS = {
    "image": [
        PNG,
        b"\xff\xd8\xff\xe0",
        b"GIF89a",
        b"BM1234",
        b"II*\0",
        b"MM\0*",
        b"RIFF1234WEBPVP8 ",
        b"P6\n1 1",
    ],
    "video": [
        MP4,
        b"\0\0\0\x08moov",
        b"\x1aE\xdf\xa3",
        b"RIFF1234AVI LIST",
        (b"G" + bytes(187)) * 3,
        bytes(4) + (b"G" + bytes(191)) * 3,
    ],
}


@pytest.mark.parametrize(("kind", "head"), [(kind, head) for kind, heads in HEADS.items() for head in heads])
def test_the_content_decides_what_it_is(tmp_path: Path, kind: str, head: bytes) -> None:
    path = tmp_path / "misleading.txt"
    path.write_bytes(head)
    assert media_kind(path, "x") == kind


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"ffconcat version 1.0\nfile /etc/passwd",
        b"#EXTM3U\n",
        b"<svg/>",
        b"G",
        b"\0\0\0\x18ftypheic",
        b"%PDF-1.7",
    ],
)
def test_playlists_and_other_formats_are_neither(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(head)
    with pytest.raises(MediaError):
        media_kind(path, "x")


NOWHERE = local_fetcher(resolve=lambda host, port: [])


def test_names_that_no_file_can_have_are_refused(config: Settings, tmp_path: Path) -> None:
    config = config.model_copy(update={"media_roots": (tmp_path,), "local_files_document_root": tmp_path})
    for value in ("x" * 300, "x/" * 3000, "/data/local-files/?d=" + "x" * 300):
        with pytest.raises(MediaError), intake(config).open(value):
            pass


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text()
    | st.builds(
        lambda scheme, rest: f"{scheme}:{rest}",
        st.sampled_from(["data", "s3", "http", "/data/upload/"]),
        st.text(),
    )
)
def test_any_value_is_a_file_or_an_error_of_ours(tmp_path: Path, value: str) -> None:
    config = Settings(
        label_studio_url="http://ls.test",
        label_studio_api_key=KEY,
        cache=tmp_path / "cache",
        media_roots=(tmp_path,),
    )
    files = MediaIntake(config, LabelStudio.from_settings(config, NOWHERE), NOWHERE)
    with pytest.raises(EdgeTAMError), files.open(value, task_id=1):
        pass

"""What goes to the server has the form that CVAT's own schema asks for, and what comes back is checked."""

from __future__ import annotations

import socket
import ssl
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3
from cvat_sdk import models

from cvat_function.video.login import Login
from cvat_function.video.records import Annotations, Attribute, LabeledShape, Track, TrackedShape
from cvat_function.video.server import CvatServer, Place, ServerError
from edgetam_model import InputError
from tests.cvat_function.task_server import BIRD, CAR, LABELS, TOKEN, JobSpan, TaskServer, serving
from tests.cvat_function.web import answering

BOX = (1.25, 2.0, 30.0, 40.5)


@pytest.fixture
def state() -> Iterator[TaskServer]:
    with serving(TaskServer((b"a", b"b"), (8, 6), (JobSpan(2, 1, 1), JobSpan(1, 0, 0)))) as found:
        yield found


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's own tries take three seconds."""
    monkeypatch.setattr("urllib3.util.retry.Retry.sleep", lambda *_: None)


@pytest.fixture
def server(state: TaskServer) -> Iterator[CvatServer]:
    with CvatServer.connect(Login(state.url, TOKEN)) as found:
        yield found


def drawn() -> Annotations:
    shape = TrackedShape(
        type="rectangle", frame=0, points=BOX, attributes=(Attribute(spec_id=32, value="x"),)
    )
    gone = shape.model_copy(update={"frame": 1, "outside": True})
    track = Track(label_id=CAR, frame=0, source="auto", shapes=(shape, gone))
    mask = LabeledShape(label_id=BIRD, type="mask", frame=0, points=(0, 12, 2, 1, 5, 3), source="auto")
    return Annotations(tracks=(track,), shapes=(mask,))


def test_cvats_own_models_take_what_is_sent() -> None:
    body = drawn().to_json()
    tracks = [models.LabeledTrackRequest(**track) for track in body["tracks"]]
    shapes = [models.LabeledShapeRequest(**shape) for shape in body["shapes"]]
    request = models.PatchedLabeledDataRequest(tracks=tracks, shapes=shapes).to_dict()
    assert str(request["tracks"][0]["shapes"][0]["type"]) == "rectangle"
    assert request["tracks"][0]["shapes"][1]["outside"]


def test_what_is_created_comes_back_with_ids_and_goes_by_them(server: CvatServer, state: TaskServer) -> None:
    made = server.create(1, drawn())
    assert made.tracks[0].id in state.tracks[1]
    assert made.shapes[0].id in state.shapes[1]
    (there,) = server.annotations(Place("job", 1)).tracks
    assert (there.id, there.shapes) == (made.tracks[0].id, made.tracks[0].shapes)
    server.delete(1, made)
    assert not state.tracks[1]
    assert not state.shapes[1]
    server.delete(1, made)


def test_lists_are_read_to_their_last_page(server: CvatServer) -> None:
    assert [label.id for label in server.labels(Place("task", 7))] == [label["id"] for label in LABELS]
    assert [job.id for job in server.jobs_of(7)] == [1, 2]  # by their frames


def test_the_servers_own_reason_is_told(server: CvatServer) -> None:
    wrong = Track(label_id=77, frame=0, shapes=drawn().tracks[0].shapes)
    with pytest.raises(ServerError, match=r"job 1: the server answers 400: .*spec_id `32` is invalid"):
        server.create(1, Annotations(tracks=(wrong,)))


def test_a_wrong_token(state: TaskServer) -> None:
    with CvatServer.connect(Login(state.url, "wrong")) as server, pytest.raises(InputError) as caught:
        server.job(1)
    assert caught.value.field == "credentials"
    assert "wrong" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, "<html>hello</html>", "something else than JSON"),
        (200, '{"id": "x"}', "the server's Job is not as expected at id"),
        (200, "[]", "not as expected at its root"),
        (500, "<html>traceback</html>", "answers 500$"),
        (403, '{"detail":"not yours"}', r"may not use job 1 \(403\): .*not yours"),
    ],
)
def test_another_answer_is_said_in_words(status: int, body: str, said: str) -> None:
    with (
        answering(status, body) as url,
        CvatServer.connect(Login(url, TOKEN)) as server,
        pytest.raises((ServerError, InputError), match=said),
    ):
        server.job(1)


def test_an_address_of_another_kind_is_refused() -> None:
    with pytest.raises(InputError, match="server"):
        CvatServer.connect(Login("ftp://host", TOKEN))


def test_a_certificate_that_nobody_vouches_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(_: object) -> None:
        error = ssl.SSLCertVerificationError(1, "certificate verify failed")
        error.verify_message = "self-signed certificate"
        raise urllib3.exceptions.SSLError(error)

    monkeypatch.setattr("urllib3.connection.HTTPSConnection.connect", connect)
    with (
        CvatServer.connect(Login("https://127.0.0.1:9", TOKEN)) as server,
        pytest.raises(ServerError, match="not trusted, self-signed certificate; --insecure"),
    ):
        server.job(1)


def test_who_does_without_the_check_is_not_warned_at_every_request() -> None:
    with CvatServer.connect(Login("https://127.0.0.1:9", TOKEN, insecure=True)):
        warnings.warn("", urllib3.exceptions.InsecureRequestWarning, stacklevel=1)  # an error elsewhere


@pytest.mark.parametrize(
    ("name", "said"),
    [("https://127.0.0.1", "speaks no HTTPS"), ("http://none.invalid", "no machine of this name")],
)
def test_an_address_of_something_else(name: str, said: str, state: TaskServer) -> None:
    address = f"{name}:{state.url.rpartition(':')[2]}"
    with CvatServer.connect(Login(address, TOKEN)) as server, pytest.raises(ServerError, match=said):
        server.job(1)


@pytest.mark.parametrize("token", [TOKEN, None], ids=["token", "password"])
def test_a_server_that_keeps_silent_is_left(token: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection stands, and nothing ever comes; with a password too, which the SDK would wait for."""
    monkeypatch.setattr("cvat_function.video.server.FIRST_TIMEOUT", (1.0, 0.05))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        login = Login(f"http://127.0.0.1:{silent.getsockname()[1]}", token, "ann", "secret")
        with pytest.raises(ServerError, match="does not answer in time"), CvatServer.connect(login) as server:
            server.job(1)


@pytest.mark.parametrize("body", ["<html>hello</html>", "{}", '{"key": "k"}', "[1]", ""])
def test_a_login_that_is_answered_by_something_else_than_cvat(body: str) -> None:
    """The SDK fails on each in a way of its own; the last but two is a login without cookies."""
    with (
        answering(200, body) as url,
        pytest.raises(ServerError, match="answers a login as no CVAT does"),
    ):
        CvatServer.connect(Login(url, user="ann", password="secret"))


def test_the_servers_reason_is_told_without_its_json() -> None:
    with (
        answering(401, '{"detail":"Invalid token."}') as url,
        CvatServer.connect(Login(url, TOKEN)) as server,
        pytest.raises(InputError, match=r"does not accept them \(401\): Invalid token\.$"),
    ):
        server.job(1)


def test_without_any_login_nobody_is_asked_for_a_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor where a profile could have been: cvat-cli would ask for that of the machine's user at http://localhost."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("CVAT_ACCESS_TOKEN", raising=False)
    with pytest.raises(InputError, match="credentials: set CVAT_ACCESS_TOKEN"):
        CvatServer.connect(Login())

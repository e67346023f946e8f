"""Everything that has to be right before a track appears, checked one by one, and what to do about it."""

from __future__ import annotations

import http.client
import json
import os
import platform
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, cast
from urllib.parse import urlsplit

from backend.access import Access
from backend.fetching import Fetcher
from backend.jobs import QueueUnavailable
from backend.label_studio import LabelStudio, LabelStudioError
from backend.label_studio_records import Backend, Project
from backend.settings import Settings
from edgetam_model import EdgeTAMError, ImageDecoders, InputError, MediaError

State = Literal["ok", "warn", "fail"]

PACKAGES = ("torch", "av", "numpy", "opencv-python-headless", "pillow", "pydantic", "safetensors")
SERVER_PACKAGES = ("flask", "redis", "rq", "waitress")
DECODERS = ("h264", "hevc", "mpeg4", "vp8", "vp9", "av1", "mjpeg")
NEEDED_DECODER = "h264"  # what nearly every video is
LOW_DISK, NO_DISK = 5 * 2**30, 2**30  # bytes: a few long videos; weights and one video
ANSWER_SECONDS = 5.0  # a doctor does not wait as long as a job may
ASKED_PROJECTS = 20  # Label Studio asks every backend of a project for its health: up to a second each
CLOCK_SECONDS = 5.0  # two machines that follow a time server differ by milliseconds
SMALLEST_IMAGE = b"P6 1 1 255\n\0\0\0"  # one black pixel
QUOTA_FILE = Path("/sys/fs/cgroup/cpu.max")
SMALL = "default"  # weights that the package brings
TITLE = "EdgeTAM"  # what `edgetam connect` calls the backend


@dataclass(frozen=True)
class Check:
    """One line.

    Attributes:
        name: what was checked.
        state: warn: it works, but not all or not for everybody.
        found: what was found; never a secret.
        cure: what to do; empty where all is well.
    """

    name: str
    state: State
    found: str
    cure: str = ""


def examine(environ: Mapping[str, str]) -> tuple[Check, ...]:
    """Check everything that the environment describes. Starts nothing and changes nothing, but weights that
    are missing are fetched as the server would, unless EDGETAM_OFFLINE says no.
    """
    checks = [check_python(), check_packages(), check_threads(environ)]
    try:
        settings = Settings.from_env(environ)
    except InputError as error:
        return (*checks, Check("settings", "fail", str(error), f"correct {error.field}"))
    checks.append(Check("settings", "ok", "every variable can be used"))
    missing_server = any(_installed(name) is None for name in SERVER_PACKAGES)
    checks += [
        check_decoders(),
        check_decoding(settings),
        check_model(settings),
        check_disk(settings),
        check_temporary(),
    ]
    checks += [] if missing_server else [check_redis(settings), *check_redis_setup(settings)]
    checks += [check_port(settings), check_access(settings), *check_folders(settings)]
    checks += check_label_studio(settings)
    return tuple(checks)


def check_python() -> Check:
    """Python and the machine, for a report; an older Python does not come as far as here."""
    release = f"edgetam-labeling {_installed('edgetam-labeling') or 'from a source tree'}"
    found = f"{release}, Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check("python", "ok", f"{found}, {os.cpu_count()} processors")


def check_threads(environ: Mapping[str, str], quota_file: Path = QUOTA_FILE) -> Check:
    """Threads of PyTorch against the cores that this process may use: more of them wait for each other."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = min(cores, _quota(quota_file) or cores)
    told = environ.get("OMP_NUM_THREADS", "")
    threads = int(told) if told.isdecimal() and int(told) else None
    found = f"{share:g} of {os.cpu_count()} processors may be used"
    if threads is None and share < (os.cpu_count() or 1):
        cure = f"set OMP_NUM_THREADS={max(1, int(share))}: PyTorch counts the processors of the whole machine"
        return Check("threads", "warn", f"{found}, OMP_NUM_THREADS is not set", cure)
    if threads is not None and threads > share:
        cure = f"set OMP_NUM_THREADS to {max(1, int(share))} or less"
        return Check("threads", "warn", f"{found}, OMP_NUM_THREADS is {threads}", cure)
    shown = "as PyTorch chooses" if threads is None else str(threads)
    return Check("threads", "ok", f"{found}; threads of a process: {shown}")


def _quota(file: Path) -> float | None:
    """Processors that a control group allows; None: it sets no bound, or there is none."""
    try:
        allowed, period = file.read_text().split()[:2]
        return int(allowed) / int(period)
    except (OSError, ValueError):  # "max" is no number
        return None


def check_packages() -> Check:
    """What has to be installed, with versions."""
    found = {name: _installed(name) for name in (*PACKAGES, *SERVER_PACKAGES)}
    missing = [name for name, number in found.items() if number is None]
    if missing:
        cure = "pip install 'edgetam-labeling[server]'"
        return Check("packages", "fail", f"not installed: {', '.join(missing)}", cure)
    return Check("packages", "ok", ", ".join(f"{name} {number}" for name, number in found.items()))


def check_decoders() -> Check:
    """PyAV, and the kinds of video that its FFmpeg reads."""
    try:
        import av
    except ImportError as error:
        return Check("video", "fail", f"PyAV cannot be loaded: {error}", "pip install --force-reinstall av")
    here = [name for name in DECODERS if name in av.codecs_available]
    found = f"PyAV {av.__version__} reads {', '.join(here) or 'nothing known'}"
    if NEEDED_DECODER not in here:
        return Check("video", "fail", found, "install PyAV from its wheel: pip install --force-reinstall av")
    if len(here) < len(DECODERS):
        lacking = ", ".join(name for name in DECODERS if name not in here)
        return Check("video", "warn", f"{found}, not {lacking}", "convert such videos to H.264")
    return Check("video", "ok", found)


def check_decoding(settings: Settings) -> Check:
    """Whether a process apart starts and decodes, under the memory and the time that it may take."""
    apart = settings.apart()
    if apart is None:
        cure = "set EDGETAM_DECODE=apart, so that a file that crashes a decoder crashes nothing else"
        return Check("decoding", "warn", "files are decoded in the server and the worker", cure)
    decoders = ImageDecoders(apart)
    try:
        decoders.read(SMALLEST_IMAGE)
        held = ("limits", *decoders.fences())
    except (MediaError, OSError) as error:
        cure = "raise EDGETAM_DECODE_MEMORY or EDGETAM_DECODE_SECONDS, or the limit of processes"
        return Check("decoding", "fail", f"a process that decodes does not work: {error}", cure)
    finally:
        decoders.close()
    what = f"{settings.decode_memory.human_readable()} and {settings.decode_seconds:g} s"
    return Check("decoding", "ok", f"in processes apart that may take {what}, held by {', '.join(held)}")


def check_model(settings: Settings) -> Check:
    """Load the model as the server does: which weights, on which device."""
    try:
        from edgetam_model import load_model

        model = load_model(settings.weights, settings.device)
    except (EdgeTAMError, ImportError, OSError, RuntimeError) as error:
        cure = "see `edgetam weights list`; set EDGETAM_WEIGHTS or EDGETAM_DEVICE, or leave them out"
        return Check("model", "fail", f"the model cannot be loaded: {error}", cure)
    device = next(model.parameters()).device
    found = f"{model.weights_info}; on {device}"
    if not getattr(model.weights_info, "trained", False):
        cure = "`edgetam weights fetch`, or bring the file: `edgetam weights import FILE`"
        return Check("model", "fail", found, cure)
    if getattr(model.weights_info, "name", "") == SMALL:
        cure = "`edgetam weights fetch`, or `edgetam weights import FILE`: production wants published ones"
        return Check("model", "warn", found, cure)
    return Check("model", "ok", found)


def check_disk(settings: Settings) -> Check:
    """Room for media and weights."""
    cache = settings.cache.expanduser()
    place = next(folder for folder in (cache, *cache.absolute().parents) if folder.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return Check("cache", "fail", f"{place} cannot be written", "set EDGETAM_CACHE to a folder that can")
    free = shutil.disk_usage(place).free
    found = f"{cache}: {free / 2**30:.1f} GiB free, media may take {settings.media_cache_bytes / 2**30:.0f}"
    cure = "free some space, or set EDGETAM_CACHE to another disk"
    if free < NO_DISK:
        return Check("cache", "fail", found, cure)
    if free < min(LOW_DISK, int(settings.media_cache_bytes)):
        return Check("cache", "warn", found, f"{cure}, or lower EDGETAM_MEDIA_CACHE_BYTES")
    return Check("cache", "ok", found)


def check_temporary() -> Check:
    """Room for the finished frames of long tracks, which lie in temporary files."""
    try:
        place = Path(tempfile.gettempdir())
        free = shutil.disk_usage(place).free
    except OSError as error:
        cure = "set TMPDIR to a folder that can be written"
        return Check("temporary", "fail", f"there is no folder for temporary files: {error.strerror}", cure)
    found = f"{place}: {free / 2**30:.1f} GiB free"
    if free < NO_DISK:
        return Check("temporary", "warn", found, "free some space, or set TMPDIR to another disk")
    return Check("temporary", "ok", found)


def check_redis(settings: Settings) -> Check:
    """The Redis of REDIS_URL and its workers, else whether a private one can be started."""
    if settings.redis_url is None:
        return _private_redis()
    from backend.queue import JobQueue  # here, so that a doctor without the server's packages can say so
    from backend.queue_store import connect

    try:
        with connect(settings.redis_url.get_secret_value(), patience=0) as redis:
            stats = JobQueue(redis).stats()
    except InputError as error:
        return Check("redis", "fail", str(error), "correct REDIS_URL")
    except QueueUnavailable as error:
        cure = "start Redis, correct REDIS_URL (password included), or leave it out for a private one"
        return Check("redis", "fail", str(error), cure)
    found = f"REDIS_URL answers; {stats.workers} workers, {sum(stats.waiting.values())} jobs wait"
    if stats.workers == 0:
        return Check("redis", "warn", found, "videos need a worker: `edgetam serve` or `edgetam worker`")
    return Check("redis", "ok", found)


def check_redis_setup(settings: Settings) -> list[Check]:
    """How the Redis of REDIS_URL is set up, and its clock beside this machine's; nothing where it is away."""
    if settings.redis_url is None:
        return []
    from backend.queue_store import connect, reaching_redis

    url = settings.redis_url.get_secret_value()
    try:
        with connect(url, patience=0) as redis, reaching_redis():
            facts = dict(cast(Mapping[str, object], redis.info()))
            seconds, micros = cast(tuple[int, int], redis.time())
    except (InputError, QueueUnavailable):
        return []  # `check_redis` has said so
    return [
        *_redis_lock(url),
        *redis_keeping(facts),
        check_clock(time.time() - (seconds + micros / 1e6)),
    ]


def _redis_lock(url: str) -> list[Check]:
    parts = urlsplit(url)
    if parts.scheme == "unix" or parts.password:
        return []
    cure = "give it `requirepass`, and REDIS_URL the password: who writes there gives orders to the workers"
    return [Check("redis", "warn", "REDIS_URL names no password", cure)]


def redis_keeping(facts: Mapping[str, object]) -> list[Check]:
    """Whether this Redis keeps what it is given, by what INFO says."""
    checks = []
    if not facts.get("aof_enabled"):
        cure = "set `appendonly yes` in Redis: jobs of the last minutes are gone after a power cut without it"
        checks.append(Check("redis", "warn", "it writes no append-only file", cure))
    policy = facts.get("maxmemory_policy", "noeviction")
    if facts.get("maxmemory") and policy != "noeviction":
        cure = "set `maxmemory-policy noeviction` in Redis: full, it should refuse jobs and not forget some"
        checks.append(Check("redis", "fail", f"its maxmemory-policy is {policy}", cure))
    return checks


def check_clock(ahead: float) -> Check:
    """This machine's clock against Redis's; `ahead` in seconds."""
    found = f"this machine's is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} Redis's"
    if abs(ahead) > CLOCK_SECONDS:
        cure = "let both follow a time server: times on the status page and of tokens are off"
        return Check("clock", "warn", found, cure)
    return Check("clock", "ok", found)


def check_access(settings: Settings) -> Check:
    """Whether this server asks who comes."""
    if not Access.from_settings(settings).is_open:
        return Check("access", "ok", "the server asks for a password or a token")
    if settings.host.startswith("127.") or settings.host in ("localhost", "::1"):
        return Check("access", "ok", "no password, but only this machine reaches the server")
    cure = "set EDGETAM_TOKEN, or BASIC_AUTH_USER and BASIC_AUTH_PASS, or HOST=127.0.0.1"
    return Check("access", "warn", "anybody who reaches the port may use the server", cure)


def _private_redis() -> Check:
    from backend.embedded_redis import server_program

    cure = "pip install 'edgetam-labeling[server]', install redis-server, or set REDIS_URL"
    try:
        program = server_program()
        answer = subprocess.run(  # noqa: S603  our own program
            [str(program), "--version"], capture_output=True, text=True, timeout=ANSWER_SECONDS, check=True
        )
    except QueueUnavailable as error:
        return Check("redis", "fail", str(error), cure)
    except (OSError, subprocess.SubprocessError) as error:
        return Check("redis", "fail", f"the Redis program does not run ({type(error).__name__})", cure)
    words = answer.stdout.split()
    number = next((word for word in words if word.startswith("v=")), "").removeprefix("v=")
    return Check("redis", "ok", f"no REDIS_URL: `edgetam serve` starts a private Redis {number}".rstrip())


def check_port(settings: Settings) -> Check:
    """Whether the server can listen, or listens already."""
    if settings.port == 0:
        return Check("port", "ok", "any free port will be taken")
    where = f"{settings.host}:{settings.port}"
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((settings.host, settings.port))
    except OSError as error:
        if _edgetam_answers(settings):
            return Check("port", "ok", f"a server of this product answers at {where}")
        found = f"{where} cannot be listened on: {error.strerror or error}"
        return Check("port", "fail", found, "stop what uses it, or set PORT (and HOST)")
    return Check("port", "ok", f"{where} is free: `edgetam serve` is not running here")


def _edgetam_answers(settings: Settings) -> bool:
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "") else settings.host  # noqa: S104  only compared
    connection = http.client.HTTPConnection(host, settings.port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/health")
        answer = json.loads(connection.getresponse().read(100_000))
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
    return isinstance(answer, dict) and answer.get("model_class") == "EdgeTAM"


def check_folders(settings: Settings) -> list[Check]:
    """Folders that tasks may name files in, and that of fine-tuned versions."""
    roots = [("EDGETAM_MEDIA_ROOTS", root) for root in settings.media_roots]
    if settings.local_files_document_root:
        roots.append(("LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT", settings.local_files_document_root))
    checks = [_readable(variable, root) for variable, root in roots]
    if settings.model_dir is not None:
        folder = settings.model_dir.expanduser()
        place = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        good = place.is_dir() and os.access(place, os.W_OK | os.X_OK)
        cure = "" if good else "set MODEL_DIR to a folder that can be written"
        found = f"MODEL_DIR {folder} can{'' if good else 'not'} be written"
        checks.append(Check("folders", "ok" if good else "fail", found, cure))
    return checks


def _readable(variable: str, root: Path) -> Check:
    if not root.is_dir():
        return Check("folders", "fail", f"{variable}: {root} is no folder here", "mount it, or correct it")
    if not os.access(root, os.R_OK | os.X_OK):
        cure = "let this user read it, or run as one who may"
        return Check("folders", "fail", f"{variable}: {root} cannot be read", cure)
    return Check("folders", "ok", f"{variable}: {root} can be read")


def check_label_studio(settings: Settings) -> list[Check]:
    """Whether Label Studio answers, takes the token, and reaches this server."""
    name = "label studio"
    if not settings.label_studio_url:
        cure = "set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY: workers fetch videos and store tracks by them"
        return [Check(name, "warn", "LABEL_STUDIO_URL is not set", cure)]
    if settings.label_studio_api_key is None:
        cure = "set LABEL_STUDIO_API_KEY: Account & Settings in Label Studio shows it"
        return [Check(name, "warn", "LABEL_STUDIO_API_KEY is not set", cure)]
    hasty = settings.model_copy(update={"stall_seconds": ANSWER_SECONDS, "fetch_seconds": 4 * ANSWER_SECONDS})
    try:
        studio = LabelStudio.from_settings(settings, Fetcher.from_settings(hasty))
        assert studio is not None, "both are set"
        kind = "legacy token" if studio.credentials().header.startswith("Token ") else "personal access token"
        projects = studio.list_projects()
        reached = Check(name, "ok", f"{studio.origin} takes the {kind}; {len(projects)} projects")
        webhooks = check_webhooks(studio, projects, settings)
        return [reached, check_backends(studio, projects, settings.port), *webhooks]
    except LabelStudioError as error:
        if error.status is None:
            cure = "start Label Studio, or set LABEL_STUDIO_URL to how this machine reaches it"
        else:
            cure = "make a new token in Label Studio under Account & Settings, and set LABEL_STUDIO_API_KEY"
        return [Check(name, "fail", str(error), cure)]
    except MediaError as error:
        return [Check(name, "fail", str(error), "correct LABEL_STUDIO_URL")]


def check_backends(studio: LabelStudio, projects: tuple[Project, ...], port: int) -> Check:
    """Whether projects use this server, and what Label Studio says of it."""
    asked = projects[:ASKED_PROJECTS]
    found = [(project, row) for project in asked for row in studio.list_backends(project.id)]
    ours = [(project, row) for project, row in found if _is_ours(row, port)]
    if not ours:
        looked = f"none of the {len(asked)} projects looked at uses this server"
        return Check("backend", "warn", looked, "`edgetam connect --project ID` or `--create TITLE`")
    bad = [(project, row) for project, row in ours if row.state in ("DI", "ER") or not row.is_interactive]
    if not bad:
        numbers = ", ".join(str(project.id) for project, _ in ours)
        return Check("backend", "ok", f"connected to the projects {numbers}")
    project, row = bad[0]
    if row.state == "DI":
        cure = "start `edgetam serve`, and give Label Studio an address that it can reach (`edgetam connect`)"
        return Check("backend", "fail", f"project {project.id}: Label Studio cannot reach {row.url}", cure)
    if row.state == "ER":
        why = row.error_message or "no reason given"
        cure = "see the log of `edgetam serve`; user and password may be missing"
        return Check("backend", "fail", f"project {project.id}: {row.url} answers with an error: {why}", cure)
    cure = f"switch on interactive preannotations, or `edgetam connect --project {project.id}`"
    return Check("backend", "warn", f"project {project.id}: clicks and t are not sent to {row.url}", cure)


def check_webhooks(studio: LabelStudio, projects: tuple[Project, ...], settings: Settings) -> list[Check]:
    """Whether webhooks send the password that this server asks for; Label Studio makes them without it."""
    if Access.from_settings(settings).is_open:
        return []
    bare = [
        project.id
        for project in projects[:ASKED_PROJECTS]
        for webhook in studio.list_webhooks(project.id)
        if webhook.url.endswith(f":{settings.port}/webhook")
        and not any(name.lower() == "authorization" for name in webhook.headers)
    ]
    if not bare:
        return []
    found = f"project {bare[0]}: its webhook sends no password, so its annotations are not learned from"
    return [Check("webhook", "warn", found, f"`edgetam connect --project {bare[0]}`")]


def _is_ours(row: Backend, port: int) -> bool:
    return row.title == TITLE or row.url.rstrip("/").endswith(f":{port}")


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None

"""Where fine-tuned versions live, and which one serves a project.

    ROOT/project-7/v0003/        weights.safetensors, version.json, manifest.json, report/, SHA256SUMS
    ROOT/project-7/current.json  what serves, and the history of switches

A version is written into a folder whose name begins with a dot and renamed when it is whole; the pointer is a
file that is replaced. So readers need no lock, and what a crash leaves behind does not count. Writers of a
project take turns by a lock that the system frees when its holder dies.
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from uuid import uuid4

from edgetam_model.errors import InputError, WeightsError
from edgetam_model.hub import cache_dir
from edgetam_model.training import version_files
from edgetam_model.training.version_files import Version
from edgetam_model.training.version_pointer import (
    POINTER,
    PointerReader,
    locked,
    read_state,
    write_state,
    writing,
)
from edgetam_model.training.versions import (
    BASE,
    NewVersion,
    ProjectState,
    Retention,
    Switch,
    VersionName,
    VersionRow,
    check_project,
    surplus,
)

LEFTOVER_S = 3600.0  # after which an unfinished folder is a crash's: copying takes seconds


def versions_dir() -> Path:
    """Folder of all versions: below MODEL_DIR, where the server keeps its state, else below EDGETAM_CACHE."""
    state = os.environ.get("MODEL_DIR")
    return (Path(state).expanduser() if state else cache_dir()) / "versions"


class VersionStore:
    """The versions of every project; may be shared between threads, and its folder between processes.

    Args:
        root: the folder, which need not be there yet; None: `versions_dir()`.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = versions_dir() if root is None else root
        self._pointers = PointerReader()

    def projects(self) -> tuple[str, ...]:
        """Names of the projects that have or had a version, sorted."""
        try:
            names = sorted(path.name for path in self.root.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return ()
        return tuple(name for name in names if self._is_project(name))

    def names(self, project: str) -> tuple[VersionName, ...]:
        """A project's versions, oldest first; empty for an unknown project."""
        found = []
        for path in self._folder(project).glob("v*"):
            try:
                found.append(VersionName.parse(f"{project}/{path.name}"))
            except InputError:
                continue  # not ours
        return tuple(sorted(found))

    def rows(self, project: str) -> tuple[VersionRow, ...]:
        """A project's versions for a list, oldest first; their files are not read.

        Raises:
            InputError: no such project.
            WeightsError: its pointer is damaged.
        """
        self._check_known(project)
        state = self.state(project)
        return tuple(self._row(name, state) for name in self.names(project))

    def get(self, name: VersionName) -> Version:
        """A version's facts. Of its files only the record is checked; `version_files` reads the others.

        Raises:
            InputError: no such version.
            WeightsError: its record is damaged.
        """
        folder = self._folder(name.project) / name.label
        if not folder.is_dir():
            raise InputError("version", f"{name}: no such version; {self._what_there_is(name.project)}")
        return version_files.read_version(folder, name)

    def weights_file(self, name: VersionName) -> Path:
        """The file for `load_model`, held against its sum.

        Raises:
            InputError: no such version.
            WeightsError: damaged.
        """
        return version_files.check_file(self.get(name), version_files.WEIGHTS)

    def find(self, text: str) -> VersionName | None:
        """The version that `project-7/v0003`, or `project-7` for its current one, means.

        Returns:
            None where no such project has versions: the text may name something else.

        Raises:
            WeightsError: the project has no such version, or none is current.
        """
        project = text.partition("/")[0]
        if not self._is_project(project):
            return None
        name = self._parsed(text) if "/" in text else self.current_of(project)
        if name is None or name not in self.names(project):
            what = "no such version" if "/" in text else "has no current version"
            raise WeightsError(f"{text}: {what}; {self._what_there_is(project)}")
        return name

    def state(self, project: str) -> ProjectState:
        """What serves a project and what did.

        Raises:
            WeightsError: the pointer is damaged.
        """
        return read_state(self._folder(project))

    def current_of(self, project: str) -> VersionName | None:
        """What serves a project; None: the weights that everybody gets.

        Costs one stat while nothing changes, so that servers and workers ask on every request.

        Raises:
            InputError: not a project's name.
            WeightsError: the pointer is damaged.
        """
        current = self._pointers.current(self._folder(project))
        return None if current in (None, BASE) else VersionName.parse(f"{project}/{current}")

    def add(self, project: str, new: NewVersion) -> VersionName:
        """Write a version, whole or not at all; it is a candidate until it is promoted.

        Raises:
            InputError: what is handed over cannot be used.
            WeightsError: it cannot be written.
        """
        self._check_parent(project, new.parent)
        if not new.weights.is_file():
            raise InputError("weights", f"expected a file, found none at {new.weights}")
        if new.report and not new.report.is_dir():
            raise InputError("report", f"expected a folder, found none at {new.report}")
        folder = self._folder(project)
        draft = folder / f".draft-{uuid4().hex}"
        with writing(folder):
            draft.mkdir(parents=True)
            try:
                sums = version_files.copy_in(draft, new)
                with locked(folder):
                    self._sweep(project)
                    name = VersionName(project, self._last_number(project) + 1)
                    version_files.seal(draft, name, new, sums)
                    draft.rename(folder / name.label)
                    version_files.sync_folder(folder)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        return name

    def promote(self, name: VersionName, *, why: str = "", over: str | None = None) -> Switch:
        """Let a version serve its project; its files are checked first.

        Args:
            name: the version.
            why: for the history.
            over: what it was compared with, such as "v0002" or "base": it is not promoted over anything else.

        Returns:
            The switch that made it current, an earlier one where it was so already.

        Raises:
            InputError: no such version, or something else serves by now.
            WeightsError: damaged, or the pointer cannot be written.
        """
        self._check_known(name.project)
        with locked(self._folder(name.project)):
            version_files.check_all(self.get(name))
            state = self.state(name.project)
            if over is not None and over != state.current:
                raise InputError("over", f"expected {over} to serve {name.project}, found {state.current}")
            return self._switch(name.project, state, name.label, "promote", why)

    def rollback(self, project: str, to: str | None = None, *, why: str = "") -> Switch:
        """Let what served before serve again.

        Args:
            project: which.
            to: a version that served before, such as "v0002", or "base"; None: the current version's parent.
            why: for the history.

        Raises:
            InputError: no such project or version, one that never served, or nothing to go back from.
            WeightsError: the version to go back to is damaged, or the pointer cannot be written.
        """
        self._check_known(project)
        with locked(self._folder(project)):
            state = self.state(project)
            if not state.switches:
                raise InputError("project", f"{project}: nothing was promoted yet")
            after = self._parent(project, state) if to is None else self._served(project, state, to)
            if after != BASE:
                version_files.check_all(self.get(VersionName.parse(f"{project}/{after}")))
            return self._switch(project, state, after, "rollback", why)

    def delete(self, name: VersionName) -> None:
        """Remove a version. Its number is not given again.

        Raises:
            InputError: no such version, or it serves, or it is the parent of what serves.
            WeightsError: it cannot be removed, or the current version's record is damaged.
        """
        self._check_known(name.project)
        with locked(self._folder(name.project)):
            if name not in self.names(name.project):
                raise InputError("version", f"{name}: no such version; {self._what_there_is(name.project)}")
            if name in self._protected(name.project):
                raise InputError("version", f"{name} serves {name.project}, or is the parent of what does")
            self._remove(name)

    def prune(self, project: str, retention: Retention) -> tuple[VersionName, ...]:
        """Delete what the rules give up, and tell which.

        Raises:
            InputError: no such project.
            WeightsError: as `delete`.
        """
        self._check_known(project)
        with locked(self._folder(project)):
            gone = surplus(self.rows(project), self._protected(project), retention)
            for name in gone:
                self._remove(name)
        return gone

    def _folder(self, project: str) -> Path:
        return self.root / check_project(project)

    def _is_project(self, text: str) -> bool:
        try:
            return bool(self.names(text)) or (self._folder(text) / POINTER).is_file()
        except InputError:
            return False

    def _check_known(self, project: str) -> None:
        check_project(project)
        if not self._is_project(project):
            known = ", ".join(self.projects()) or "none"
            raise InputError("project", f"{project}: no such project has versions; those that have: {known}")

    def _check_parent(self, project: str, parent: str) -> None:
        """A version has to be there and of this project: rolling back goes to the parent."""
        if "/" not in parent and parent:
            return
        name = VersionName.parse(parent)
        if name.project != project:
            raise InputError(
                "parent", f"expected a version of {project} or the name of weights, got {parent}"
            )
        self.get(name)

    def _parsed(self, text: str) -> VersionName | None:
        try:
            return VersionName.parse(text)
        except InputError:
            return None

    def _what_there_is(self, project: str) -> str:
        state, names = self.state(project), self.names(project)
        told = [f"{name.label} ({state.status(name)})" for name in names]
        return f"{project} has {', '.join(told) or 'no versions'}"

    def _row(self, name: VersionName, state: ProjectState) -> VersionRow:
        folder, status = self._folder(name.project) / name.label, state.status(name)
        size = version_files.folder_size(folder)
        try:
            return VersionRow(name, status, size, version_files.read_version(folder, name).record)
        except WeightsError as error:
            return VersionRow(name, status, size, problem=str(error))

    def _last_number(self, project: str) -> int:
        """The highest that was ever given."""
        return max([self.state(project).newest, *(name.number for name in self.names(project))])

    def _protected(self, project: str) -> set[VersionName]:
        """What serves, and its parent."""
        current = self.current_of(project)
        parent = self.get(current).record.parent_version if current else None
        return {name for name in (current, parent) if name}

    def _parent(self, project: str, state: ProjectState) -> str:
        """Where a rollback without a target goes."""
        if state.current == BASE:
            raise InputError("project", f"{project}: has no current version to roll back from; name one")
        parent = self.get(VersionName.parse(f"{project}/{state.current}")).record.parent_version
        return parent.label if parent else BASE

    def _served(self, project: str, state: ProjectState, label: str) -> str:
        """The target of a rollback, if something like that ever served."""
        if label != BASE and not any(switch.after == label for switch in state.switches):
            raise InputError(
                "to",
                f"expected base or a version that served before, got {label!r}; "
                f"{self._what_there_is(project)}",
            )
        return label

    def _switch(
        self, project: str, state: ProjectState, after: str, how: Literal["promote", "rollback"], why: str
    ) -> Switch:
        """Replace the pointer, unless it says so already. The lock is held."""
        if state.switches and state.current == after:
            return state.switches[-1]
        switch = Switch(time=datetime.now(UTC), before=state.current, after=after, how=how, why=why)
        write_state(self._folder(project), state.model_copy(update={"switches": (*state.switches, switch)}))
        return switch

    def _remove(self, name: VersionName) -> None:
        """Take a version out of sight at once, then off the disk. The lock is held."""
        state = self.state(name.project)
        if name.number > state.newest:
            write_state(self._folder(name.project), state.model_copy(update={"newest": name.number}))
        folder = self._folder(name.project)
        out_of_sight = folder / f".deleted-{uuid4().hex}"
        with writing(folder):
            (folder / name.label).rename(out_of_sight)
            shutil.rmtree(out_of_sight)

    def _sweep(self, project: str) -> None:
        """Remove what crashes have left. The lock is held."""
        for path in self._folder(project).glob(".*-*"):
            with suppress(OSError):  # others tidy up after themselves at the same time
                if time.time() - path.stat().st_mtime > LEFTOVER_S:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

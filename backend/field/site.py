"""What the field kit asks of Label Studio: tasks with all that was drawn, and annotations to be stored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlencode

from backend.label_studio import LabelStudio, LabelStudioError
from backend.label_studio_records import DrawnTask, DrawnTasks, Record

PAGE = 50  # tasks come with all that was drawn
MAX_PAGES = 10_000


class StoredAnnotation(Record):
    """An annotation as Label Studio keeps it."""

    id: int
    result: tuple[Any, ...] = ()
    updated_at: str | None = None
    was_cancelled: bool = False


class FieldSite(LabelStudio):
    """A Label Studio whose annotations are taken along and brought back."""

    def tasks(self, project: int, numbers: Sequence[int] = ()) -> Iterator[DrawnTask]:
        """Tasks of a project with their annotations, by id; all of them where no numbers are given.

        No backend is asked for predictions, and addresses of media come as the project has them.

        Raises:
            LabelStudioError: refused, or no such project.
        """
        if not numbers:
            yield from self._listed(project, None)
        for start in range(0, len(numbers), PAGE):
            wanted = numbers[start : start + PAGE]
            chosen = set(wanted)
            yield from (task for task in self._listed(project, wanted) if task.id in chosen)

    def _listed(self, project: int, numbers: Sequence[int] | None) -> Iterator[DrawnTask]:
        view: dict[str, Any] = {"ordering": ["tasks:id"]}
        if numbers is not None:
            equal = {"filter": "filter:tasks:id", "operator": "equal", "type": "Number"}
            items = [{**equal, "value": number} for number in numbers]
            view["filters"] = {"conjunction": "or", "items": items}
        query = {"project": project, "fields": "all", "resolve_uri": "false", "query": json.dumps(view)}
        seen: set[int] = set()
        for page in range(1, MAX_PAGES + 1):
            asked = urlencode({**query, "page": page, "page_size": PAGE})
            found = self._get(DrawnTasks, f"api/tasks/?{asked}")
            yield from (task for task in found.tasks if task.id not in seen)
            seen.update(task.id for task in found.tasks)
            if page * PAGE >= found.total:
                return
        raise LabelStudioError(f"project {project} has more than {MAX_PAGES * PAGE} tasks")

    def annotations(self, task: int) -> tuple[StoredAnnotation, ...]:
        """The annotations of a task as they are now, drafts not among them.

        Raises:
            LabelStudioError: refused; its status is 404 where there is no such task.
        """
        return tuple(self._get(list[StoredAnnotation], f"api/tasks/{task}/annotations/"))

    def create_annotation(self, task: int, result: Sequence[Any]) -> StoredAnnotation:
        """Store a new annotation of the token's user."""
        return self._send(
            StoredAnnotation, "POST", f"api/tasks/{task}/annotations/", {"result": list(result)}
        )

    def update_annotation(self, annotation: int, result: Sequence[Any]) -> StoredAnnotation:
        """Put these regions in place of those that an annotation holds."""
        return self._send(
            StoredAnnotation, "PATCH", f"api/annotations/{annotation}/", {"result": list(result)}
        )

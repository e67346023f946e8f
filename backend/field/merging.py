"""`edgetam field merge`: what was done in the field goes back, once, over nothing that others did since.

How that is done the platform's adapter knows. No torch."""

from __future__ import annotations

from backend.field.journal import NAME, Journal
from backend.field.kit import WORK, Kit
from backend.field.work import Work
from edgetam_model.field_places import FieldProject, FieldSite, FieldWork, MergeOptions, Outcome, Return

MEMORY = "merged.jsonl"


def merge(kit: Kit, site: FieldSite, options: MergeOptions) -> list[Outcome]:
    """Bring back every task that somebody worked on, in the order of their ids.

    Raises:
        InputError: a damaged kit.
        EdgeTAMError: the server refuses, or is not reached; what was merged before stays.
    """
    begun = [task.id for task in kit.manifest.tasks if (kit.work(task.id) / NAME).exists()]
    project = kit.project()
    works = tuple(field_work(kit, project, number) for number in sorted(begun))
    memory = Journal(kit.root / WORK / MEMORY)
    home = Return(kit.manifest.source.project, kit.project_text(), works, memory, options)
    return list(site.merge(home))


def field_work(kit: Kit, project: FieldProject, number: int) -> FieldWork:
    """What was done on a task.

    Raises:
        InputError: a damaged kit.
    """
    task = kit.task(number)
    work = Work(Journal(kit.work(number) / NAME), project.objects(task))
    return FieldWork(task, work.given.objects, work.now.objects)

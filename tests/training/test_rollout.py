"""Training and tracking compute the same function, and gradients reach every part."""

from __future__ import annotations

import copy

import pytest
import torch

from edgetam_model.model import EdgeTAM
from edgetam_model.options import TrackerOptions
from edgetam_model.prompts import Prompt
from edgetam_model.session import VideoSession
from edgetam_model.training.feed import Rows, choose_objects, to_rows
from edgetam_model.training.prompting import Kind, random_for
from edgetam_model.training.recipe import PromptMix
from edgetam_model.training.rollout import Plan, Recorded, Replayed, Rollout, Simulated, draw_plan, roll_out
from edgetam_model.video_tracker import VideoTracker
from tests.models import tiny_model
from tests.training.clips import Discs

FRAMES = 9  # more than the recent memories, so that the oldest are forgotten
OPTIONS = TrackerOptions(dynamic_multimask=False, fill_hole_area=0, lost_after=0, verify=False)
MIX = PromptMix(box_noise=0)


def rows_of(frames: int, clips: int = 2, objects: int = 1) -> Rows:
    batch = Discs(frames).batch(0, 0, clips)
    return to_rows(batch, torch.arange(objects).expand(clips, -1), 128)


def run(model: EdgeTAM, kind: Kind, corrected: int | None = None, clicks: int = 0) -> Rollout:
    rows = rows_of(FRAMES)
    plan = Plan(kind, corrected, clicks, torch.zeros(FRAMES, 2, dtype=torch.bool))
    with torch.no_grad():
        return roll_out(model, rows, plan, Simulated(MIX, random_for(5)))


def session_of(clip: int) -> VideoSession:
    frames = Discs(FRAMES).batch(0, clip, 1).frames[0].permute(0, 2, 3, 1).numpy()
    return VideoTracker(tiny_model(), OPTIONS).open(list(frames))


def show(session: VideoSession, rollout: Rollout, kind: Kind, clip: int) -> None:
    if kind == "mask":
        prompt = Prompt(mask=rows_of(FRAMES).masks[clip, 0].numpy())
    else:
        clicks = rollout.steps[0].clicks
        assert clicks is not None
        points = clicks.points[clip].numpy()
        prompt = Prompt(box=points.reshape(4)) if kind == "box" else Prompt(points=points, labels=[1])
    session.add_prompt(0, 1, prompt)


@pytest.mark.parametrize("kind", ["mask", "box", "click"])
@pytest.mark.parametrize("clip", [0, 1])
def test_a_roll_out_equals_the_tracker(kind: Kind, clip: int) -> None:
    rollout = run(tiny_model(), kind)
    with session_of(clip) as session:
        show(session, rollout, kind, clip)
        tracked = [result.objects[1] for result in session.propagate()]
    for frame in range(0 if kind != "mask" else 1, FRAMES):
        step = rollout.last(frame)
        wanted = torch.tensor(tracked[frame].logits)
        assert torch.allclose(step.chosen[clip], wanted, atol=1e-4), frame
        assert float(step.object_score[clip]) == pytest.approx(tracked[frame].object_score, abs=1e-4)


def test_a_corrected_roll_out_equals_a_corrected_session() -> None:
    rollout = run(tiny_model(), "box", corrected=4, clicks=2)
    with session_of(0) as session:
        show(session, rollout, "box", 0)
        list(session.propagate(stop=4))
        clicks = rollout.last(4).clicks
        assert clicks is not None
        for number in range(2):
            points, labels = clicks.points[0, number : number + 1], clicks.labels[0, number : number + 1]
            session.add_prompt(4, 1, Prompt(points=points.numpy(), labels=labels.numpy()), extend=True)
        tracked = [result.objects[1] for result in session.propagate()]
    for frame in range(4, FRAMES):
        wanted = torch.tensor(tracked[frame].logits)
        assert torch.allclose(rollout.last(frame).chosen[0], wanted, atol=1e-4), frame


def test_a_still_is_corrected_on_the_spot() -> None:
    plan = Plan("click", 0, 2, torch.zeros(1, 2, dtype=torch.bool))
    rollout = roll_out(tiny_model(), rows_of(1), plan, Simulated(MIX, random_for(5)))
    assert [step.clicks.points.shape[1] for step in rollout.steps if step.clicks] == [1, 2, 3]
    assert [step.logits.shape[1] for step in rollout.steps] == [3, 1, 1], "one click is ambiguous"
    assert not rollout.attended


def test_teacher_forcing_remembers_the_truth() -> None:
    """With forced memories nothing depends on the mask that the model made of the frame before."""
    rows, never = rows_of(3), torch.zeros(3, 2, dtype=torch.bool)
    other = copy.deepcopy(tiny_model())
    with torch.no_grad():
        for name, value in other.named_parameters():
            if "output_hypernetworks_mlps" in name and name.endswith("layers.2.bias"):
                value.add_(1.0)  # other masks from the same tokens, so that pointers stay
    answers = {}
    for forced in (never, ~never):
        plan = Plan("box", None, 0, forced)
        with torch.no_grad():
            made = [roll_out(m, rows, plan, Simulated(MIX, random_for(5))) for m in (tiny_model(), other)]
        answers[bool(forced.any())] = [rollout.attended[0] for rollout in made]
    with_truth, with_own = answers[True], answers[False]
    assert torch.equal(with_truth[0], with_truth[1])
    assert not torch.allclose(with_own[0], with_own[1], atol=1e-4)


def test_gradients_reach_every_parameter() -> None:
    model = copy.deepcopy(tiny_model()).train()
    rows = rows_of(4, objects=2)
    plan = Plan("click", 2, 2, torch.zeros(4, 4, dtype=torch.bool))
    rollout = roll_out(model, rows, plan, Simulated(MIX, random_for(5)))
    loss = sum(s.logits.square().mean() + s.ious.mean() + s.object_score.mean() for s in rollout.steps)
    assert isinstance(loss, torch.Tensor)
    loss.backward()
    idle = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    # no_mem_pos_enc is never read; the mask's own convolution needs a mask prompt, the clicks' labels that
    # were not given a click, and absent objects an absence.
    allowed = {"no_mem_pos_enc", "mask_downsample.weight", "mask_downsample.bias", "no_obj_ptr"}
    assert {n for n in idle - allowed if "point_embeddings" not in n} == set()


def test_checkpointing_changes_neither_numbers_nor_statistics() -> None:
    rows = rows_of(3)
    plan = Plan("click", 1, 1, torch.zeros(3, 2, dtype=torch.bool))
    states, gradients = [], []
    for checkpointing in (False, True):
        model = copy.deepcopy(tiny_model()).train()
        made = roll_out(model, rows, plan, Simulated(MIX, random_for(5)), checkpointing=checkpointing)
        sum((s.logits.square().mean() for s in made.steps), torch.zeros(())).backward()
        states.append({k: v for k, v in model.state_dict().items() if "running" in k or "num_batches" in k})
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))


def test_a_replayed_roll_out_gets_the_same_clicks_in_its_own_pixels() -> None:
    rows = rows_of(3)
    plan = Plan("click", 1, 2, torch.zeros(3, 2, dtype=torch.bool))
    recorded = Recorded(Simulated(MIX, random_for(5)))
    first = roll_out(tiny_model(), rows, plan, recorded)
    again = roll_out(tiny_model(1), rows, plan, Replayed(recorded.given, 0.5))
    assert len(recorded.given) == 3
    for one, other in zip(first.steps, again.steps, strict=True):
        assert (one.clicks is None) == (other.clicks is None)
        if one.clicks is not None and other.clicks is not None:
            assert torch.equal(one.clicks.points * 0.5, other.clicks.points)


def test_plans_are_drawn_as_the_mix_says() -> None:
    random = random_for(1)
    plans = [
        draw_plan(PromptMix(mask=2, box=1, click=1, corrections=0.5), 6, 3, 0.25, random) for _ in range(400)
    ]
    kinds = [plan.kind for plan in plans]
    assert 160 < kinds.count("mask") < 240
    corrected = [plan.corrected for plan in plans if plan.corrected is not None]
    assert 160 < len(corrected) < 240
    assert set(corrected) == {1, 2, 3, 4, 5}
    forced = torch.stack([plan.forced for plan in plans]).float().mean()
    assert float(forced) == pytest.approx(0.25, abs=0.03)
    stills = [draw_plan(PromptMix(mask=9), 1, 3, 0, random) for _ in range(100)]
    assert {plan.kind for plan in stills} == {"box", "click"}
    assert {plan.corrected for plan in stills} == {None, 0}


def test_objects_on_the_first_frame_are_chosen_and_others_weigh_nothing() -> None:
    batch = Discs(2).batch(0, 0, 8)
    batch.present[:, 0, 1] = False
    batch.masks[:, 0, 1] = False
    assert choose_objects(batch, 1, random_for(0)).eq(0).all()
    rows = to_rows(batch, choose_objects(batch, 2, random_for(0)), 64)
    assert rows.weight.tolist() == [1.0, 0.0] * 8
    assert rows.images.shape == (8, 2, 3, 64, 64)
    assert rows.clip.tolist() == [clip for clip in range(8) for _ in range(2)]

"""TensorBoard: what the views add to a run's events, read back."""

import re
from types import SimpleNamespace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks import BoardViews, TensorBoard
from callbacks.records.board_views import LAYOUT, passes_by_op

METRICS = {
    "val/executable/pass@1/op2": torch.tensor(0.9), "val/executable/pass@1/op5": torch.tensor(0.4),
    "val/executable/pass@8/op2": torch.tensor(1.0), "val/executable/pass@8/op5": torch.tensor(0.7),
    "val/executable/pass@1/ID": torch.tensor(0.9), "train/loss": torch.tensor(0.5),
}  # fmt: skip


def test_a_run_gets_sections_pictures_a_histogram_and_its_settings(tmp_path):
    board = TensorBoard(tmp_path, name="", version="")
    trainer = SimpleNamespace(
        loggers=[board], is_global_zero=True, sanity_checking=False, testing=False, callback_metrics=METRICS, global_step=7
    )
    views = BoardViews({"model": {"init_args": {"lr": 0.1, "layers": [1, 2]}}})
    views.on_fit_start(trainer, None)
    views.on_validation_epoch_start(trainer, None)
    report = [SimpleNamespace(process_accuracy=share) for share in (0.0, 0.5, 1.0, 1.0)]
    views.on_validation_batch_end(trainer, None, {"rollout": SimpleNamespace(reports=[report[:2], report[2:]])}, None, 0)
    views.on_validation_batch_end(trainer, None, None, None, 1)
    views.on_validation_end(trainer, None)
    views.on_fit_end(trainer, None)
    board.experiment.flush()
    found = EventAccumulator(str(tmp_path), size_guidance={"histograms": 0}).Reload()
    assert found.Tags()["images"] == ["val/pass_at_k by operations"]
    (event,) = found.Histograms("val/process_accuracy")
    assert (event.step, event.histogram_value.num, event.histogram_value.sum) == (7, 4, 2.5)
    assert found.Scalars("last/train/loss")[-1].value == 0.5
    plugins = {found.SummaryMetadata(tag).plugin_data.plugin_name for tag in found.Tags()["tensors"]} | set(
        found.summary_metadata[tag].plugin_data.plugin_name for tag in found.summary_metadata
    )
    assert {"custom_scalars", "hparams"} <= plugins


def test_settings_are_flat_numbers_and_texts():
    settings = {"a": {"init_args": {"b": 1}, "c": [2], "d": None}, "e": "x", "f": True}
    assert BoardViews(settings).settings == {"a.b": 1, "e": "x", "f": True}


def test_the_picture_draws_each_k_over_operations():
    (axis,) = passes_by_op(METRICS, "val").axes
    drawn = {line.get_label(): [*map(float, line.get_xdata()), *map(float, line.get_ydata())] for line in axis.lines}
    assert drawn == {"pass@1": pytest.approx([2, 5, 0.9, 0.4]), "pass@8": pytest.approx([2, 5, 1.0, 0.7])}
    assert passes_by_op(METRICS, "test") is None


@pytest.mark.parametrize("tags", [tags for charts in LAYOUT.values() for _, tags in charts.values()])
def test_every_tag_of_a_section_is_a_regular_expression(tags):
    assert all(re.compile(tag) for tag in tags)
    assert not [
        tag for tag in tags if re.fullmatch(tag, "val/executable/pass@8/op5") or re.fullmatch(tag, "val/process_accuracy/op5")
    ]

"""Class paths of older configs, from when each reward and callback had a module of its own, import the same classes."""

import sys
from importlib import import_module

import pytest

import callbacks
import lightning_modules.rewards

REWARDS = """
    credit.Credit credit.Earned credit.NodeCredit format.FormatPenalty length.LengthPenalty mixed.MixedReward noisy.NoisyVerifier
    outcome.OutcomeReward process.ProcessReward computed_steps.ReasoningReward released.ReleasedReward reward.Reward
    released.ReleasedTextReward
    step_credit.StepCredit strict.StrictReward weighted_sum.WeightedSum penalties.OverlongPenalty scoring.RewardError scoring.earn
    scoring.score
"""
CALLBACKS = """
    board_views.BoardViews
    checkpoint.Checkpoint compute_budget.ComputeBudget compute_ledger.ComputeLedger edge_of_competence.EdgeOfCompetence
    entropy.EntropyMonitor export.HuggingFaceExport gradient_norm.GradientNorm logs.MetricsCSV logs.RewindLogs logs.TensorBoard
    memory.Memory mixture_record.MixtureRecord non_finite.NonFiniteLoss pass_at_k.VerifiedPassAtK progress.ProgressLines
    progress.StageBar random_state.RandomState reward_hacking.RewardHacking run_record.RunRecord sample_log.SampleLog
    sample_writer.SampleWriter throughput.Throughput token_budget.TokenBudget zero_variance.ZeroVariance
    peak.StopAtPeak
    competence.UntilCompetent
"""
PATHS = [(lightning_modules.rewards, path) for path in REWARDS.split()] + [(callbacks, path) for path in CALLBACKS.split()]


@pytest.mark.parametrize(("package", "path"), PATHS)
def test_a_class_path_of_an_older_config_imports_the_same_class(package, path):
    module, name = path.split(".")
    assert getattr(import_module(f"{package.__name__}.{module}"), name) is getattr(package, name)


@pytest.mark.parametrize(
    ("module", "name"),
    [("sample_store", "SampleStore"), ("stop_signals", "Stopped"), ("files", "write_text"), ("processes", "sum_over_processes")],
)
def test_other_modules_of_callbacks_import_by_their_old_names(module, name):
    assert hasattr(import_module(f"callbacks.{module}"), name)


def test_every_class_of_the_packages_has_its_path_here():
    assert {path.split(".")[1] for _, path in PATHS} == {*lightning_modules.rewards.__all__, *callbacks.__all__} - {"progress"}


@pytest.mark.parametrize("path", ["callbacks", "callbacks.kl_control"])
def test_the_callback_that_was_removed_says_what_to_set(path):
    with pytest.raises(AttributeError, match=r"model\.init_args\.kl\.target"):
        import_module(path).KLControl  # noqa: B018
    assert not hasattr(sys.modules[path], "Nothing")

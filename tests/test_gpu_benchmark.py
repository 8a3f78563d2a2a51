"""The GPU benchmark: a case that fails leaves the others, what is known is kept, and its checks find what is wrong."""

import json

import pytest
import torch

from benchmarks import gpu


def test_a_case_that_fails_leaves_the_others_and_late_ones_are_not_begun(tmp_path, capsys):
    file = tmp_path / "results/gpu.json"

    def broken():
        assert json.loads(file.read_text())["cases"]["first"]["ok"]  # written before the next case begins
        raise RuntimeError("out of\nmemory")

    cases = iter([("first", lambda: {"ok": True, "rate": 2.0}), ("second", broken), ("third", lambda: {"ok": True})])
    found = gpu.run_cases(cases, file, {"rows": 3}, seconds=60)
    assert [case["ok"] for case in found.values()] == [True, False, True]
    assert found["second"]["error"] == "RuntimeError: out of memory"
    assert json.loads(file.read_text()) == {"rows": 3, "cases": found}
    late = gpu.run_cases(iter([("late", broken)]), file, {}, seconds=-1)
    assert late["late"]["ok"] is None and "no time left" in capsys.readouterr().out


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return gpu.Bench("cpu", 1, 1, tmp_path_factory.mktemp("runs"))


def test_losses_and_rollouts_agree_on_a_cpu_and_a_wrong_one_is_found(bench, monkeypatch):
    names = [name for name, _ in bench.cases()]
    assert names[:4] == ["loss, documents", "loss, sdpa", "rollout, teacher-forced", "shared prefixes, teacher-forced"]
    for name in bench.backends():
        assert bench.loss(name)["ok"]
    assert bench.rollouts(share=False)["ok"] and bench.rollouts(share=True)["ok"]
    right = gpu.sample

    def wrong(*args, **settings):
        done = right(*args, **settings)
        done.logp_NT = done.logp_NT + 0.01
        return done

    monkeypatch.setattr(gpu, "sample", wrong)
    assert not bench.rollouts(share=False)["ok"]


@pytest.mark.long
def test_all_of_it_runs_on_a_cpu(tmp_path):
    assert gpu.main(["--device", "cpu", "--out", str(tmp_path)]) == 0
    cases = json.loads((tmp_path / "gpu_cpu.json").read_text())["cases"]
    assert {"shipped config, pretrain", "shipped config, midtrain", "shipped config, grpo"} <= cases.keys()
    assert all(case["ok"] for case in cases.values())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_to_do():
    with pytest.raises(SystemExit, match="--device cpu"):
        gpu.main([])


def test_a_side_that_does_other_work_fails(bench, monkeypatch):
    """Its first loss is another; the first side sets what is compared with."""
    losses = iter([7.0, 7.0005, 7.3])
    monkeypatch.setattr(gpu, "ours", lambda job: (1.0, next(losses), None))
    assert [bench.speed({})["ok"] for _ in range(3)] == [True, True, False]

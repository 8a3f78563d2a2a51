"""Which stages of a folder make a study, and what each of them started from."""

import json
import os

import pytest
import yaml

from recipes.report.studies import find_studies
from recipes.running.result_tables import arm_table


def write_stage(folder, start=None, age=0):
    (folder / "test").mkdir(parents=True)
    (folder / "test/evaluation.json").write_text("{}")
    init = None if start is None else str(start)
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": {"init_args": {"init_from": init}}}))
    os.utime(folder, (1e9 + age, 1e9 + age))
    return folder / "huggingface"


def chains(study):
    return {group.label: [stage.folder for stage in group.runs[0].stages] for group in study.groups}


def test_siblings_each_follow_what_they_started_from(tmp_path):
    base = write_stage(tmp_path / "pretrain")
    write_stage(tmp_path / "grpo_b", base, age=1)
    one = write_stage(tmp_path / "grpo_a", base, age=2)
    write_stage(tmp_path / "again", one, age=3)
    write_stage(tmp_path / "alone", age=4)
    (study,) = find_studies(tmp_path)
    assert chains(study) == {
        "pretrain": ["pretrain"], "alone": ["alone"], "grpo_b": ["pretrain", "grpo_b"], "grpo_a": ["pretrain", "grpo_a"],
        "again": ["pretrain", "grpo_a", "again"],
    }  # fmt: skip
    assert [*chains(study)] == ["pretrain", "alone", "grpo_b", "grpo_a", "again"]


def test_a_start_elsewhere_is_not_the_stage_of_its_name_here(tmp_path):
    elsewhere = write_stage(tmp_path / "other/grpo")
    write_stage(tmp_path / "hand/grpo", elsewhere)
    write_stage(tmp_path / "hand/pretrain")
    write_stage(tmp_path / "hand/more", write_stage(tmp_path / "other/pretrain"))
    (study,) = find_studies(tmp_path / "hand")
    assert chains(study) == {"grpo": ["grpo"], "pretrain": ["pretrain"], "more": ["more"]}


def test_stages_that_were_moved_are_told_by_name_and_a_circle_ends(tmp_path):
    write_stage(tmp_path / "grpo", "gone/pretrain/huggingface")
    write_stage(tmp_path / "pretrain", "gone/grpo/huggingface")
    write_stage(tmp_path / "self", "gone/self/huggingface")
    (study,) = find_studies(tmp_path)
    assert chains(study) == {"self": ["self"], "grpo": ["pretrain", "grpo"], "pretrain": ["grpo", "pretrain"]}


def test_a_folder_and_its_folders_of_seeds_are_two_studies(tmp_path):
    for place in ("run", "run/seed0", "run/seed1"):
        write_stage(tmp_path / place / "pretrain")
    found = {study.name: [run.last.folder for run in study.groups[0].runs] for study in find_studies(tmp_path)}
    assert found == {"run": ["run/pretrain"], "run, by seed": ["run/seed0/pretrain", "run/seed1/pretrain"]}
    (alone,) = find_studies(tmp_path / "run/seed1")
    assert alone.name == "seed1"


@pytest.mark.parametrize("record", [{"arms": []}, []])
def test_other_json_files_are_no_studies(tmp_path, record):
    write_stage(tmp_path / "pretrain")
    (tmp_path / "notes.json").write_text(json.dumps(record))
    assert len(find_studies(tmp_path)) == 1


def write_index(folder, *arms):
    """An index in which every stage is complete; arms as lists of stages."""
    listed = [
        {"name": f"{arm[-1]}-seed0", "values": {"arm": arm[-1]}, "seed": 0,
         "stages": [{"name": stage, "kind": stage, "folder": f"stages/{stage}", "state": "complete"} for stage in arm]}
        for arm in arms
    ]  # fmt: skip
    path = folder / "made.json"
    index = {"recipe": "made", "scale": "", "about": "", "about_scale": "", "figures": [], "axes": {"arm": [a[-1] for a in arms]}}
    path.write_text(json.dumps(index | {"arms": listed}))
    return path


def write_scores(folder, passes, trained="a", start=None):
    write_stage(folder)
    (folder / "training.json").write_text(json.dumps({"weights": trained}))
    (folder / "test/pass_at_k.json").write_text(json.dumps(passes))
    if start:
        (folder / "stage.json").write_text(json.dumps({"start": start}))


def test_the_table_of_a_run_has_arms_whose_scores_count_today(tmp_path):
    score = {"executable": {"pass@1": {"mean": 0.5}, "pass@4": {"mean": 0.75}}}
    write_scores(tmp_path / "stages/base", {"op2": score, "edge": {}}, trained="new")
    write_scores(tmp_path / "stages/old", {"edge": score}, start="old")
    write_scores(tmp_path / "stages/fresh", {"edge": score, "op2": score}, start="new")
    index = write_index(tmp_path, ["base"], ["base", "old"], ["base", "fresh"], ["base", "gone"])
    rows = [line.split() for line in arm_table(index).splitlines()[2:]]
    assert rows == [
        ["base", "op2", "1", "0.500", "pass@4", "0.750"], ["old", "0"], ["fresh", "edge", "1", "0.500", "pass@4", "0.750"],
        ["gone", "0"],
    ]  # fmt: skip
    (study,) = find_studies(tmp_path)
    assert [group.label for group in study.groups] == ["base", "fresh"]

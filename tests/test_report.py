"""The report: every number can be traced to its file, whatever a run left can be drawn, the page stands alone."""

import base64
import gzip
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from statistics import mean, stdev

import pytest
from finished_study import write_study
from matplotlib.figure import Figure
from minute_recipe import write_configs

import main
from callbacks.evaluation.sample_files import read_samples
from grammar import parse_problem, parse_response, verify
from recipes.report.chart import Line, Panel, draw_panel
from recipes.report.effects import measure, verdict
from recipes.report.report_command import charts_of
from recipes.report.samples import _answer
from recipes.report.sourced_numbers import Files, Number, Term, pointer, t_quantile
from recipes.report.studies import find_studies
from recipes.report.study_values import Values

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SIZES = {"phone": (390, 3000), "tablet": (768, 3000), "desk": (1280, 3000)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two stages run for real, then made into a study of two arms with three seeds by shifting their numbers; with its report."""
    root = tmp_path_factory.mktemp("report")
    write_configs(root, ("garden", "orchestra"))
    stages = (
        "unseen: [orchestra]\nstages:\n  pretrain: {config: pretrain.yaml}\n  grpo: {config: grpo.yaml, init_from: pretrain}\n"
    )
    (root / "plain.yaml").write_text(stages)
    assert main.main(["run", str(root / "plain.yaml"), "--out", str(root / "plain")]) == 0
    out = root / "study"
    arms = []
    for seed in range(3):
        for stage in ("pretrain", "grpo"):
            shifted(root / "plain" / stage, out / f"stages/{stage}-{seed}", 0.04 * seed + 0.1 * (stage == "grpo"))
        parts = [{"name": s, "kind": s, "folder": f"stages/{s}-{seed}", "state": "complete"} for s in ("pretrain", "grpo")]
        for value, length in (("base", 1), ("20%", 2)):
            arms.append({"name": f"{value}-seed{seed}", "values": {"share": value}, "seed": seed, "stages": parts[:length]})
    arms[-1]["stages"] = [arms[-1]["stages"][0], {"name": "grpo", "kind": "grpo", "folder": "stages/none", "state": "failed"}]
    index = {
        "recipe": "test", "scale": "tiny", "about": "A <test> & more.", "about_scale": "", "figures": [6],
        "axes": {"share": ["base", "20%"]}, "arms": arms,
    }  # fmt: skip
    (out / "test.tiny.json").write_text(json.dumps(index))
    assert main.main(["report", str(out)]) == 0
    assert main.main(["report", str(root / "plain")]) == 0
    return root


def shifted(source: Path, target: Path, by: float) -> None:
    """A copy of a stage whose shares are moved."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("checkpoints", "huggingface", "events*"))
    path = target / "test/evaluation.json"
    evaluation = json.loads(path.read_text())

    def move(part: object) -> object:
        if isinstance(part, dict):
            return {key: min(1.0, value + by) if key in ("mean", "low", "high") and value is not None else move(value)
                    for key, value in part.items()}  # fmt: skip
        return part

    path.write_text(json.dumps(move(evaluation)))


def block_of(page: Path) -> dict:
    """What the page opens on demand."""
    return json.loads(gzip.decompress(base64.b64decode(re.search(r'id="block">(.*?)</script>', page.read_text()).group(1))))


class Numbers(HTMLParser):
    """The numbers of a page: those that stand in it, with their sources, then those that it opens on demand."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[tuple[str, list, str]] = []
        self.links: list[str] = []
        self._open: tuple | None = None
        self.block = block_of(page)
        self.feed(page.read_text())
        self.shown = len(self.found)
        self.found += [(of["text"], of["terms"], of["form"]) for of in self.block["numbers"]]

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.links += [given[key] for key in ("src", "href") if key in given]
        if given.get("class") == "n":
            number = self.block["numbers"][int(given["data-n"])]
            self._open = (number["terms"], number["form"])

    def handle_data(self, data):
        if self._open:
            self.found.append((data, *self._open))
            self._open = None


def read_value(root: Path, path: str, key: str) -> float:
    """Oracle: the value, read anew."""
    if path.endswith(".csv"):
        column, step = re.fullmatch(r"(.+)\[step=(\d+)\]", key).groups()
        head, *rows = (line.split(",") for line in (root / path).read_text().splitlines())
        return [float(row[head.index(column)]) for row in rows if row[head.index("step")] == step and row[head.index(column)]][-1]
    value = json.loads((root / path).read_text())
    for part in key.split("/")[1:]:
        value = value[part.replace("~1", "/").replace("~0", "~")]
    return float(value)


@pytest.mark.parametrize("which", ["study", "plain"])
def test_every_number_is_what_its_files_say(folder, which):
    page = Numbers(folder / which / "report.html")
    found, tables = page.found, page.block["tables"]
    assert page.shown > 20
    assert sum(isinstance(cell, list) for table in tables for row in table["rows"] for cell in row) > 150
    forms = {"share": "{:.3f}", "flops": "{:.2e}", "count": "{:,.0f}", "plain": "{:.3g}"}
    for text, runs, form in found[:: max(1, len(found) // 400)]:
        value = mean(sum(weight * read_value(folder / which, path, key) for weight, path, key in run) for run in runs)
        assert float(text.replace(",", "")) == pytest.approx(float(forms[form].format(value).replace(",", "")), abs=0.0011)
    assert {path.rpartition("/")[2] for _, runs, _ in found for run in runs for _, path, _ in run} >= {
        "evaluation.json", "metrics.csv", "compute.json", "training.json",
    }  # fmt: skip


def test_a_number_names_its_files_and_says_where_there_are_more():
    def title(*weights):
        terms = tuple(Term(weight, "f.csv", f"x[step={step}]") for step, weight in enumerate(weights))
        return Number(1.0, None, None, (terms,)).title

    assert title(1) == "f.csv x[step=0]"
    assert title(1, -1) == "f.csv x[step=0] - f.csv x[step=1]"
    assert title(-1, 1) == "- f.csv x[step=0] + f.csv x[step=1]"
    assert title(1, 1, 1, 1, 1) == "sum of 5 values, f.csv x[step=0] to f.csv x[step=4]"
    assert title(0.5, 0.5) == "mean of 2 values, f.csv x[step=0] to f.csv x[step=1]"


def test_many_arms_differ_without_their_colours():
    number = Number(0.5, None, None, ((Term(1, "f", "k"),),))
    lines = tuple(Line(str(i), ((1, number), (2, number)), style=i) for i in range(28))
    axis = Figure().subplots()
    draw_panel(axis, Panel("", "", "", lines))
    assert len({(line.get_marker(), line.get_fillstyle(), line.get_linestyle()) for line in axis.lines}) == 28


def test_the_interval_over_seeds_is_students(folder):
    """Oracle: mean ± t s / sqrt(n), t for two degrees of freedom being 4.303."""
    files = Files(folder / "study")
    key = pointer("grades", "band", "ID", "answer", "pass@1", "mean")
    values = [read_value(folder / "study", f"stages/pretrain-{seed}/test/evaluation.json", key) for seed in range(3)]
    number = files.number([[Term(1, f"stages/pretrain-{seed}/test/evaluation.json", key)] for seed in range(3)])
    half = 4.303 * stdev(values) / 3**0.5
    assert number.value == pytest.approx(mean(values))
    assert (number.low, number.high) == pytest.approx((max(0.0, mean(values) - half), min(1.0, mean(values) + half)))
    alone = files.number([[Term(1, "stages/pretrain-0/test/evaluation.json", key)]])
    assert alone.low == read_value(folder / "study", "stages/pretrain-0/test/evaluation.json", key.replace("mean", "low"))


def test_seeds_that_are_equal_have_no_interval(folder):
    """Two models that solve nothing say little of a third."""
    term = Term(1, "stages/pretrain-0/test/evaluation.json", pointer("grades", "band", "ID", "answer", "pass@1", "mean"))
    number = Files(folder / "study").number([[term], [term]])
    assert (number.low, number.high) == (None, None)
    said = [verdict(replace(number, value=value)) for value in (0.5, -0.5, 0.0)]
    assert said == ["above zero", "below zero", "zero for every seed"]
    assert number.title.endswith("; interval: none, as 2 seeds are equal")


def test_quantiles_beyond_the_table_are_students():
    """Oracle: printed tables, 97.5%, 12 and 60 degrees of freedom."""
    assert t_quantile(12) == pytest.approx(2.179, abs=3e-3)
    assert t_quantile(60) == pytest.approx(2.000, abs=1e-3)


def test_arms_that_are_not_complete_are_named_and_left_out(folder):
    (study,) = find_studies(folder / "study")
    assert study.missing == {"20%-seed2": "grpo: failed"}
    assert {group.label: len(group.runs) for group in study.groups} == {"base": 3, "20%": 2}
    assert "grpo: failed" in (folder / "study/report.html").read_text()


def test_arms_are_compared_seed_by_seed_and_say_how_many_they_have(folder):
    """Arm 20% lacks seed 2, which base has; the difference is that of the two seeds that both have."""
    (study,) = find_studies(folder / "study")
    values, key = Values(study, Files(folder / "study")), pointer("grades", "band", "ID", "answer", "pass@1", "mean")
    base, share = study.groups
    assert [values.title(group) for group in study.groups] == ["base", "20% (2 of 3 seeds)"]
    found = values.difference(share, base, key)
    by_hand = [
        read_value(folder / "study", f"stages/grpo-{seed}/test/evaluation.json", key)
        - read_value(folder / "study", f"stages/pretrain-{seed}/test/evaluation.json", key)
        for seed in (0, 1)
    ]
    assert found.value == pytest.approx(mean(by_hand))
    assert len(found.runs) == 2
    (drawn,) = (chart for chart in charts_of(values) if chart.key == "differences")
    assert [label for label, _ in drawn.panels[0].lines[0].points] == ["20% (2 of 3 seeds)"]


@pytest.mark.parametrize("graders", [("executable",), ("executable", "answer")])
def test_pass_at_k_and_what_the_recipe_names_are_open_at_once_by_each_grader(folder, graders):
    (study,) = (found for found in find_studies(folder / "study") if found.name.startswith("test"))
    charts = charts_of(Values(replace(study, figures=(10, 8), graders=graders), Files(folder / "study")))
    of_each = [f"pass_at_k-{grader}" for grader in graders] if len(graders) > 1 else ["pass_at_k"]
    assert [chart.key for chart in charts if chart.first] == ["likelihood", "faults", *of_each]
    assert not all(chart.first for chart in charts)


def test_an_interval_of_nats_is_not_cut_at_one(folder):
    (study,) = find_studies(folder / "study")
    (chart,) = (found for found in charts_of(Values(study, LoudFiles(folder / "study"))) if found.key == "likelihood")
    for line in chart.panels[0].lines:
        assert all(number.low <= number.value <= number.high for _, number in line.points if number.low is not None)
        assert any(number.value > 1 for _, number in line.points)


class LoudFiles(Files):
    """Files in which pre-training alone left gold solutions two nats a token less likely."""

    def value(self, path, key):
        found = super().value(path, key)
        return found + 2 + 0.1 * int(path[16]) if "nll_nats" in key and path.startswith("stages/pretrain-") else found


def test_a_file_that_is_no_json_is_named(tmp_path):
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ValueError, match=r"broken\.json is not JSON"):
        find_studies(tmp_path)


def test_stages_run_by_hand_are_found_in_their_order(folder):
    (study,) = find_studies(folder / "plain")
    assert [group.label for group in study.groups] == ["pretrain", "grpo"]
    assert [stage.name for stage in study.groups[1].runs[0].stages] == ["pretrain", "grpo"]


def test_the_page_stands_alone_and_escapes_what_it_quotes(folder):
    page = Numbers(folder / "study/report.html")
    assert page.links
    assert all(link.startswith("#") for link in page.links)
    text = (folder / "study/report.html").read_text()
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "A &lt;test&gt; &amp; more." in text


def test_figures_that_the_recipe_names_come_first_and_are_kept_as_pictures(folder):
    pictures = sorted(path.name for path in (folder / "study/figures").glob("*.png"))
    for name in (
        "differences", "pass_at_k", "by_operations", "pass_at_k_by_context", "by_operations_and_context", "bars", "steps",
        "gains", "likelihood", "rewards", "compute",
    ):  # fmt: skip
        assert f"test__tiny-{name}.png" in pictures
    titles = re.findall(r"<figcaption><h3>(.*?)</h3>", (folder / "study/report.html").read_text())
    assert titles[0].startswith("Pass@1 and pass@n by operations (the shape of Figure 6)")


def test_samples_are_shown_step_by_step_with_reasons(folder):
    (stages,) = block_of(folder / "study/report.html")["samples"]
    for stage in stages:
        rows = list(read_samples([folder / "study" / stage["path"]]))
        for problem in stage["problems"]:
            same = [r for r in rows if (r["problem"], r["question"]) == (problem["problem"], problem["question"])]
            assert problem["of"] == len(same)
            for answer in problem["answers"]:
                row = next(r for r in same if r["sample"] == answer["sample"])
                assert "".join(part["text"] for part in answer["parts"]) == row["response"]
                marks = [part["right"] for part in answer["parts"] if "right" in part]
                assert marks == [step["correct"] for step in sorted(row["report"]["steps"], key=lambda step: step["start"])]


def test_a_response_is_cut_into_its_steps_each_right_or_wrong_with_the_reason():
    """The second step is wrong, the third follows from it; nothing of the text is lost."""
    steps = ["Define roses as A; so A = 3.", "Define oaks as B; so B = A = 4.", "Define ferns as C; so C = 2 * B = 2 * 4 = 8."]
    text = "Well. " + " ".join(steps) + " </solution> <answer> 8 </answer>"
    problem = "The number of roses equals 3. The number of oaks equals the number of roses. "
    problem += "The number of ferns equals 2 times the number of oaks."
    report = verify(parse_response(text), parse_problem(problem, "How many ferns are there?"))
    kept = json.loads(json.dumps(report.to_dict()))
    shown = _answer({"response": text, "report": kept, "sample": 5, "accepted": {"answer": False}})
    assert "".join(part["text"] for part in shown["parts"]) == text
    marked = [part for part in shown["parts"] if "right" in part]
    assert [part["text"] for part in marked] == steps
    assert [part["right"] for part in marked] == [True, False, False]
    assert [part["name"] for part in marked] == ["roses", "oaks", "ferns"]
    assert not marked[0]["why"] and marked[1]["why"]
    assert shown["nodes"].keys() == {"roses", "oaks", "ferns"} and shown["nodes"]["roses"] != shown["nodes"]["oaks"]
    assert shown["errors"] and (shown["sample"], shown["accepted"]) == (5, {"answer": False})


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
@pytest.mark.parametrize("size", SIZES)
def test_a_browser_shows_the_page_within_its_width(folder, tmp_path, size):
    """Asked from a page around it, which a window's least width does not bind; a screenshot is kept in the test's folder."""
    width, height = SIZES[size]
    shutil.copyfile(folder / "study/report.html", tmp_path / "page.html")
    ask = (
        "const d = f.contentDocument, count = (what) => d.querySelectorAll(what).length; document.title = JSON.stringify({"
        "wide: d.documentElement.scrollWidth, seen: f.contentWindow.innerWidth, samples: count('.sample'),"
        "panels: count('.panel > svg'), strips: count('.verdicts .seed'), nodes: count('.graph rect'), table: count('td')});"
    )
    (tmp_path / "frame.html").write_text(
        f"<body style='margin:0'><iframe src='page.html' style='border:0;width:{width}px;height:{height}px'></iframe>"
        "<script>const f = document.querySelector('iframe');"  # the page unpacks its block after it has loaded
        f"f.onload = () => setTimeout(() => {{ {ask} }}, 3000)</script></body>"
    )
    common = [
        BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--allow-file-access-from-files",
        f"--user-data-dir={tmp_path}/user", f"--window-size={max(width, 500)},{height}", "--virtual-time-budget=20000",
    ]  # fmt: skip
    address = f"file://{tmp_path / 'frame.html'}"
    subprocess.run([*common, f"--screenshot={tmp_path / size}.png", address], check=True, capture_output=True, timeout=200)
    assert (tmp_path / f"{size}.png").stat().st_size > 20_000
    dumped = subprocess.run([*common, "--dump-dom", address], check=True, capture_output=True, text=True, timeout=200).stdout
    found = json.loads(re.search(r"<title>(.*?)</title>", dumped).group(1).replace("&quot;", '"'))
    assert found["seen"] == width
    assert found["wide"] <= width
    assert min(found["panels"], found["samples"], found["strips"], found["nodes"], found["table"]) > 1


def test_chained_stages_of_rl_are_drawn_one_after_the_other(folder, tmp_path):
    shutil.copytree(folder / "study/stages", tmp_path / "stages")
    for path in (tmp_path / "stages").glob("grpo-*/stage.json"):
        path.unlink()  # which says that each started from the base
    parts = [{"name": n, "kind": n, "folder": f"stages/{of}", "state": "complete"} for n, of in
             (("pretrain", "pretrain-0"), ("first", "grpo-0"), ("second", "grpo-2"))]  # fmt: skip
    arms = [{"name": f"{v}-seed0", "values": {"reward": v}, "seed": 0, "stages": parts[:n]} for v, n in (("base", 1), ("two", 3))]
    index = {"recipe": "chain", "scale": "tiny", "about": "", "about_scale": "", "figures": [], "arms": arms}
    index["axes"] = {"reward": ["base", "two"]}
    (tmp_path / "chain.json").write_text(json.dumps(index))
    (study,) = find_studies(tmp_path)
    (found,) = [chart for chart in charts_of(Values(study, Files(tmp_path))) if chart.key == "across_stages"]
    base, two = next(panel for panel in found.panels if panel.title.startswith("ID") and "1" in panel.title).lines
    at = ["grades", "band", "ID", "executable", "pass@1", "mean"]

    def value(stage):
        evaluation = json.loads((tmp_path / f"stages/{stage}/test/evaluation.json").read_text())
        for key in at:
            evaluation = evaluation[key]
        return evaluation

    assert [x for x, _ in base.points] == [0]
    assert [(x, number.value) for x, number in two.points] == [(n, value(s)) for n, s in
                                                               enumerate(("pretrain-0", "grpo-0", "grpo-2"))]  # fmt: skip
    (once,) = [study for study in find_studies(folder / "study") if study.name.startswith("test")]
    assert not [chart for chart in charts_of(Values(once, Files(folder / "study"))) if chart.key == "across_stages"]


def test_a_grader_that_no_evaluation_has_is_refused_and_one_that_some_have_draws_what_it_can(tmp_path, capsys):
    write_study(tmp_path / "study")
    assert main.main(["report", str(tmp_path / "study"), "--grader", "released"]) == 2
    assert "no evaluation in" in capsys.readouterr().err
    assert main.main(["report", str(tmp_path / "study"), "--grader", "released,executable"]) == 0


def test_words_of_a_recipe_are_never_taken_for_a_place_of_the_page(tmp_path):
    write_study(tmp_path / "study")
    index = tmp_path / "study/extrapolation.tiny.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"about": 'Does the BLOCK matter? <script id="block">BLOCK'}))
    assert main.main(["report", str(tmp_path / "study")]) == 0
    page = tmp_path / "study/report.html"
    assert "Does the BLOCK matter?" in page.read_text() and block_of(page)["samples"] is not None


def test_a_claim_whose_arms_share_no_seed_is_left_open(tmp_path):
    """Arm `edge` has lost all seeds but one, `base` that one."""
    write_study(tmp_path / "study")
    index = tmp_path / "study/extrapolation.tiny.json"
    found = json.loads(index.read_text())
    found["arms"] = [arm for arm in found["arms"] if (arm["values"]["data"] == "edge") == (arm["seed"] == 3)]
    index.write_text(json.dumps(found))
    (study,) = find_studies(tmp_path / "study")
    key = "/grades/band/edge/executable/pass@16/mean"
    effects = [{"what": "edge - base", "arm": "edge", "against": "base", "at": key}, {"what": "base", "arm": "base", "at": key}]
    open_one, base = measure(study, Files(tmp_path / "study"), {"effects": effects})
    assert "seeds" not in open_one and len(base["seeds"]) == 5
    with pytest.raises(ValueError, match="is in no evaluation"):
        measure(study, Files(tmp_path / "study"), {"effects": [effects[1] | {"at": "/grades/nowhere"}]})
    assert main.main(["report", str(tmp_path / "study")]) == 0


def test_a_study_without_bands_says_so(tmp_path):
    write_study(tmp_path / "study")
    for path in (tmp_path / "study/stages").glob("*/test/evaluation.json"):
        grades = json.loads(path.read_text())
        grades["grades"].pop("band")
        path.write_text(json.dumps(grades))
    (tmp_path / "study/extrapolation.tiny.json").rename(tmp_path / "study/mine.json")
    assert main.main(["report", str(tmp_path / "study")]) == 0
    assert "No band in common" in (tmp_path / "study/report.html").read_text()

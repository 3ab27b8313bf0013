"""The command line: what it says, what it returns, and that a fault leaves nothing behind."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
import reference

from helpers import cli, launch, study


def test_check_says_what_can_be_measured_and_what_cannot(players, capsys):
    path, _ = players
    text = path.read_text().replace("segments:", "  satisfaction: [survey_score]\nsegments:")
    path.write_text(text)
    assert cli.main(["check", str(path)]) == 0
    said = capsys.readouterr().out
    assert "4,000 accounts in 2 arms; 3 of 4 metrics can be measured" in said
    assert "survey_score" in said
    assert "cannot: it needs the event table 'surveys'" in said


def test_check_says_what_a_plain_number_is_in_per_cent(players, capsys):
    path, table = players
    text = path.read_text().replace("target: +2%", "margin: -0.05").replace("supporting:", "operational:")
    text = text.replace("covariates: [history]", "target: 5")
    path.write_text(text.replace("margin: -10%", "equivalence: 2pp"))
    assert cli.main(["check", str(path)]) == 0
    said = capsys.readouterr().out
    control = table[table["version"] == "old"]
    level = control["hours"].mean()  # by pandas
    (share,) = re.findall(rf"asked target 5 \(\+([0-9.]+)% of {level:.4g}\): yes", said)
    assert float(share) == pytest.approx(500 / level, rel=0.01)
    ratio = control["hours"].sum() / control["sessions"].sum()
    assert re.search(rf"asked margin -0.05 \([-−]{5 / ratio:.2g}[0-9.]*% of {ratio:.4g}\)", said)
    assert re.search(r"asked equivalence ±?2 ?pp\W*:", said)  # percentage points are said already


def test_check_goes_on_after_a_bad_file_and_remembers_it(players, capsys):
    path, _ = players
    bad = path.with_name("bad.yaml")
    bad.write_text(path.read_text().replace("column: kept", "column: kep"))
    for order in ([bad, path], [path, bad]):
        assert cli.main(["check", *map(str, order)]) == 2
        said = capsys.readouterr()
        assert "gate (" in said.out
        assert "needs column 'kep'" in said.err


def test_a_reader_that_leaves_early_ends_no_command_in_a_traceback(players):
    path, _ = players
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "helpers.cli", "check", str(path)]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_check_fails_where_the_arms_are_not_as_planned(players, capsys):
    path, table = players
    table[(table["version"] == "old") | (table.index % 4 > 0)].to_csv(path.parent / "players.csv", index=False)
    path.write_text(path.read_text() + "sampling: {n: {old: 1, new: 1}}\n")
    assert cli.main(["check", str(path)]) == 1
    assert "FAILED" in capsys.readouterr().out


def test_a_page_about_groups_shows_none_where_the_arms_are_not_as_planned(players, monkeypatch):
    path, table = players
    hours = table["hours"] + 4.0 * ((table["country"] == "NO") & (table["version"] == "new"))
    kept = (table["version"] == "old") | (table.index % 4 > 0)
    table.assign(hours=hours, fits=table.index % 2)[kept].to_csv(path.parent / "players.csv", index=False)
    path.write_text(path.read_text() + "sampling: {n: {old: 1, new: 1}}\nframe: {recruited: random, needs: fits}\n")
    monkeypatch.chdir(path.parent)
    arguments = ["report", "gate.yaml", "--only", "05", "--date", "2026-11-21"]
    assert cli.main([*arguments, "-p", "explore=sessions_band"]) == 0
    page = path.parent / "reports" / "2026-11-21" / "gate" / "05_segments.html"
    read, text = json.loads(page.with_suffix(".json").read_text()), page.read_text()
    reason = "not shown, because the check 'Arm counts' failed"
    assert read["headline"] == f"The launch shows no effects by group: {reason}."
    assert ("Arm counts", False) in {(c["name"], c["passed"]) for c in read["checks"]}
    assert read["estimates"] == []
    assert not re.search(r"gained in|[+−][0-9.]+ \([+−]|>NO<", text)  # a claim, an effect with its interval, a level
    assert text.count(reason.replace("'", "&#39;")) + text.count(reason) > 3


def test_new_then_check(players, capsys, monkeypatch):
    path, _ = players
    monkeypatch.chdir(path.parent)
    assert cli.main(["new", "players.csv", "--out", "drafted.yaml"]) == 0
    assert "premiere check drafted.yaml" in capsys.readouterr().out
    assert cli.main(["check", "drafted.yaml"]) == 0


BAD = {
    "launch file": (["report", "nowhere.yaml"], "there is no such launch file"),
    "parameter": (["report", "gate.yaml", "-p", "treatmnt=new"], "did you mean 'treatment'?"),
    "arm": (["report", "gate.yaml", "-p", "treatment=nobody"], "is no treatment of gate"),
    "pair": (["report", "gate.yaml", "-p", "treatment"], "is not NAME=VALUE"),
    "notebook": (["report", "gate.yaml", "--only", "99"], "99"),
    "date": (["report", "gate.yaml", "--date", "tomorrow"], "expected a day such as"),
    "jobs": (["report", "gate.yaml", "--jobs", "0"], "must be at least 1"),
    "table": (["new", "nowhere.csv", "--out", "x.yaml"], "there is no such file"),
}


@pytest.mark.parametrize(("arguments", "sentence"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_one_sentence_exit_code_two_and_no_file(players, arguments, sentence, capsys, monkeypatch):
    path, _ = players
    monkeypatch.chdir(path.parent)
    before = set(path.parent.rglob("*"))
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.startswith("premiere: ")
    assert len(said.strip().splitlines()) == 1
    assert set(path.parent.rglob("*")) == before


def test_faulty_data_are_told_before_any_notebook_runs(players, capsys, monkeypatch):
    path, table = players
    table.loc[5, "hours"] = None
    table.to_csv(path.parent / "players.csv", index=False)
    monkeypatch.chdir(path.parent)
    assert cli.main(["report", "gate.yaml"]) == 2
    assert "1 accounts have a missing, NaN or infinite value" in capsys.readouterr().err
    assert not (path.parent / "reports").exists()


def test_a_launch_whose_data_cannot_be_trusted_is_published_as_invalid(players, monkeypatch):
    path, table = players
    table[(table["version"] == "old") | (table.index % 4 > 0)].to_csv(path.parent / "players.csv", index=False)
    path.write_text(path.read_text() + "sampling: {n: {old: 1, new: 1}}\n")
    monkeypatch.chdir(path.parent)
    assert cli.main(["report", "gate.yaml", "--date", "2026-11-21"]) == 0
    read = json.loads((path.parent / "reports/2026-11-21/gate/04_analysis.json").read_text())
    assert read["verdict"]["decision"] == "INVALID"
    assert read["estimates"] == []


def test_a_report_on_an_own_table_from_first_to_last(players, monkeypatch):
    path, table = players
    monkeypatch.chdir(path.parent)
    path.write_text(path.read_text().replace("name: gate", 'name: gate\ntitle: "<script>alert(1)</script>"'))
    assert cli.main(["report", "gate.yaml", "--date", "2026-11-21", "--jobs", "2"]) == 0
    folder = path.parent / "reports" / "2026-11-21" / "gate"
    read = json.loads((folder / "04_analysis.json").read_text())
    assert read["verdict"]["decision"]
    hours = next(e for e in read["estimates"] if e["metric"] == "hours")
    theta = table["hours"].cov(table["history"]) / table["history"].var()  # Deng et al. (2013), both arms together
    adjusted = (table["hours"] - theta * table["history"]).groupby(table["version"]).mean()
    assert hours["diff"] == pytest.approx(adjusted["new"] - adjusted["old"], rel=1e-9)
    page = (folder / "04_analysis.html").read_text()
    assert "<script>alert(1)" not in page
    assert "u00001" not in "".join(p.read_text() for p in folder.glob("*.*"))  # account ids never reach a page
    assert (path.parent / "reports" / "index.html").exists()
    assert sorted(p.stem for p in folder.glob("*.html")) == [p.stem for p in sorted(cli.NOTEBOOKS.glob("*.ipynb"))]


def test_cookie_cats_gives_the_published_numbers(tmp_path, monkeypatch):
    # Published: 7-day retention 19.02 % against 18.20 %, z-test p 0.0016, interval -1.33 to -0.31 percentage points.
    (tmp_path / "gate_test.yaml").write_text(f"""\
name: gate_test
data: {{units: {reference.path("data", "cookie_cats.csv")}, account: userid, arm: version}}
arms: {{control: gate_30, treatment: gate_40}}
metrics:
  north_star: {{name: retention_7, kind: proportion, column: retention_7, better: higher}}
  supporting: [{{name: rounds, kind: mean, column: sum_gamerounds, better: higher}}]
  guardrails: [{{name: retention_1, kind: proportion, column: retention_1, better: higher, margin: -2%}}]
""")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", "gate_test.yaml", "--only", "04", "--date", "2026-11-21"]) == 0
    read = json.loads((tmp_path / "reports/2026-11-21/gate_test/04_analysis.json").read_text())
    kept, rounds, _ = read["estimates"]
    assert (round(kept["control"], 4), round(kept["treatment"], 4), round(kept["p"], 4)) == (0.1902, 0.1820, 0.0016)
    assert (round(100 * kept["low"], 2), round(100 * kept["high"], 2)) == (-1.33, -0.31)
    case = reference.case("welch_t__cookiecats_rounds_all")["expected"]
    assert rounds["diff"] == pytest.approx(case["diff"], rel=1e-9)
    assert [rounds["low"], rounds["high"]] == pytest.approx(case["ci"], rel=1e-9)


@pytest.fixture(scope="module")
def small_launch(tmp_path_factory):
    """Write the embedded launch with a tenth of its accounts."""
    text = (cli.NOTEBOOKS.parent / "launches" / "show_premiere.yaml").read_text()
    path = tmp_path_factory.mktemp("small") / "show_premiere.yaml"
    text = text.replace("accounts: 400_000", "accounts: 40_000").replace("control: 30_000", "control: 3_000")
    text = text.replace("detect: +4%", "detect: +8%").replace("margin: +25%", "margin: +40%")  # what so few can see
    path.write_text(text.replace("early_access: 10_000", "early_access: 3_000"))
    return path


def test_the_embedded_launch_runs_through_all_notebooks_and_finds_the_planted_truth(
    small_launch, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", str(small_launch), "--date", "2026-11-21", "--jobs", "2"]) == 0
    folder = tmp_path / "reports/2026-11-21/show_premiere"
    read = json.loads((folder / "04_analysis.json").read_text())
    truth = study.open(launch.load(small_launch)).reveal().query("segment == 'all'").set_index("metric")["diff"]
    compared = [e for e in read["estimates"] if e["metric"] in truth]
    assert len(compared) >= 6
    for e in compared:  # five standard errors: a bias, not bad luck
        assert abs(e["diff"] - truth[e["metric"]]) < 5 * e["se"] + 1e-12, e["metric"]
    assert read["not_estimable"] == []
    assert "Planted truth" in (folder / "04_analysis.html").read_text()
    names = {p.metric.name for p in launch.load(small_launch).plan}
    for number in ("04", "05", "06", "07"):  # tables name metrics by their titles, for people
        (page,) = folder.glob(f"{number}_*.html")
        cells = re.findall(r"<t[dh][^>]*>\s*([\w:, ]+)", page.read_text())
        assert cells
        assert not [cell for cell in cells if names & set(re.split(r"\W+", cell))], page.name


def test_running_again_differs_in_dates_and_times_only(small_launch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for out in ("a", "b"):
        assert cli.main(["report", str(small_launch), "--only", "04", "--date", "2026-11-21", "--out", out]) == 0
    results = [
        json.loads((tmp_path / out / "2026-11-21/show_premiere/04_analysis.json").read_text()) for out in ("a", "b")
    ]
    assert results[0]["estimates"] == results[1]["estimates"]
    assert results[0]["verdict"] == results[1]["verdict"]
    pages = [(tmp_path / out / "2026-11-21/show_premiere/04_analysis.html").read_text() for out in ("a", "b")]
    changing = re.compile(r"\d{2}:\d{2}(:\d{2})?|\d+\.\d+ s\b|2026-\d\d-\d\d")
    first, second = (changing.sub("", page) for page in pages)
    assert first == second


def test_simulate_writes_a_service_at_the_size_asked_for(tmp_path, capsys):
    out = tmp_path / "service"
    asked = ["simulate", "--accounts", "1_000", "--days", "7", "--pre-days", "0", "--out", str(out)]
    assert cli.main([*asked, "--scenario", "show_premiere+holiday"]) == 0
    assert (out / "truth.parquet").exists()
    assert "1,000 accounts" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--scenario", "homepag"], "scenario 'homepag' is not known; did you mean 'homepage'"),
        (["--accounts", "0"], "accounts is 0"),
        (["--processes", "0"], "--processes is 0"),
        (["--scenario", "homepage+bad_show"], "'bad_show' needs a show"),
        ([], "not an empty folder"),
    ],
)
def test_simulate_refuses_in_one_sentence_and_writes_nothing(tmp_path, capsys, more, words):
    (tmp_path / "kept").write_text("mine")
    out = tmp_path / "new" if more else tmp_path
    assert cli.main(["simulate", "--out", str(out), *more]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]

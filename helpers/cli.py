"""Plan, check, draw, report, simulate. A fault to mend is one sentence and exit code 2."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from helpers.errors import ParameterError, PremiereError, hush

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
UNHEARD = 141  # what a shell gives for a program that writes to a pipe which nobody reads
EPILOG = "Exit codes: 0 done, 1 a notebook, check or rule failed, 2 the input needs mending (one sentence says what)."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command."""
    args = _parser().parse_args(arguments)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except PremiereError as error:
        return _refuse(error)
    except BrokenPipeError:
        hush()
        return UNHEARD
    except KeyboardInterrupt:
        print("premiere: interrupted; what was finished is published, nothing is half written", file=sys.stderr)
        return 130
    return code


def _refuse(error: PremiereError) -> int:
    for sentence in str(error).splitlines():
        print(f"premiere: {sentence}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="premiere", description=__doc__, epilog=EPILOG)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    check = commands.add_parser("check", help="say what a launch will measure, what it cannot, and why")
    check.add_argument("launch", nargs="+", type=Path)
    check.add_argument(
        "--assignment", type=Path, metavar="FILE", help="is this file, of 'draw', still the launch's draw?"
    )
    check.add_argument("--frame", type=Path, metavar="FILE", help="the accounts to draw from, if not those of the data")
    check.set_defaults(run=_check)

    draw = commands.add_parser("draw", help="draw the accounts of each arm and write them for those who switch it on")
    draw.add_argument("launch", type=Path)
    draw.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="a .csv or .parquet that is not there yet"
    )
    draw.add_argument("--frame", type=Path, metavar="FILE", help="the accounts to draw from, if not those of the data")
    draw.add_argument("--accounts", action="store_true", help="write account ids instead of pseudonyms")
    draw.set_defaults(run=_draw)

    new = commands.add_parser("new", help="write a commented launch file by looking at a CSV or Parquet table")
    new.add_argument("table", type=Path, help="one row per account, with a column for the arm")
    new.add_argument("--out", type=Path, help="the launch file to write (default: launches/<table>.yaml)")
    new.set_defaults(run=_new)

    lint = commands.add_parser("lint", help="say what an experienced reader would object to in a plan, before data")
    lint.add_argument("launch", nargs="+", type=Path)
    lint.add_argument("--format", choices=("text", "json"), default="text")
    lint.add_argument(
        "--data", action="store_true", help="take the spread of the metrics from the data where the plan gives none"
    )
    lint.set_defaults(run=_lint)

    plan = commands.add_parser("plan", help="write the measurement plan of a launch as one page")
    plan.add_argument("launch", type=Path)
    plan.add_argument("--out", type=Path, metavar="FILE", help="the page (default: reports/plans/<name>.html)")
    plan.set_defaults(run=_plan)

    report = commands.add_parser("report", help="run the notebooks on a launch and publish dated pages")
    report.add_argument("launch", nargs="+", type=Path)
    report.add_argument("--only", nargs="+", default=[], metavar="04", help="numbers or names of notebooks")
    report.add_argument(
        "-p", dest="given", action="append", default=[], metavar="NAME=VALUE", help="a notebook parameter"
    )
    report.add_argument("--date", default="", metavar="YYYY-MM-DD", help="the date of the run (default: today)")
    report.add_argument(
        "--jobs", type=int, default=min(os.cpu_count() or 1, 4), metavar="N", help="notebooks at a time"
    )
    report.add_argument("--out", type=Path, default=Path("reports"), metavar="DIR", help="where the pages go")
    report.add_argument(
        "--replace", action="store_true", help="replace the pages of the same day instead of adding to them"
    )
    report.set_defaults(run=_report)

    simulate = commands.add_parser("simulate", help="write the event tables of a service with known truth, at any size")
    simulate.add_argument("--accounts", type=_whole, default=100_000, metavar="N", help="for example 5_000_000")
    simulate.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder that is empty or not there")
    simulate.add_argument("--scenario", default="homepage", metavar="NAMES", help="for example show_premiere+holiday")
    simulate.add_argument("--days", type=_whole, default=28, metavar="N", help="after the launch")
    simulate.add_argument("--pre-days", type=_whole, default=28, metavar="N", help="before it")
    simulate.add_argument("--seed", type=_whole, default=20261121, metavar="N")
    simulate.add_argument("--processes", type=_whole, default=min(os.cpu_count() or 1, 2), metavar="N")
    simulate.set_defaults(run=_simulate)

    portrait = commands.add_parser("portrait", help="show the simulated service beside published figures, as one page")
    portrait.add_argument("--out", type=Path, default=Path("reports/portrait.html"), metavar="FILE", help="the page")
    portrait.add_argument("--accounts", type=_whole, default=100_000, metavar="N", help="more make it sharper")
    portrait.add_argument("--seed", type=_whole, default=20261121, metavar="N")
    portrait.set_defaults(run=_portrait)

    calibrate = commands.add_parser(
        "calibrate", help="try each type of metric on thousands of experiments whose truth is known"
    )
    calibrate.add_argument("--replicates", type=_whole, default=5_000, metavar="N", help="experiments of each sort")
    calibrate.add_argument("--n", type=_whole, default=10_000, metavar="N", help="accounts in each arm")
    calibrate.add_argument("--only", default="", metavar="WORDS", help="types of metrics, such as ratio,median")
    calibrate.add_argument("--scenario", default="homepage_optimistic", metavar="NAMES", help="what the treatment is")
    calibrate.add_argument("--seed", type=_whole, default=20261121, metavar="N")
    calibrate.set_defaults(run=_calibrate)
    return parser


def _whole(text: str) -> int:
    """Read a whole number, 5_000_000 or 5000000."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, such as 5_000_000") from None


def _simulate(args: argparse.Namespace) -> int:
    from helpers import simulate

    if args.processes < 1:
        raise ParameterError(f"--processes is {args.processes}, must be at least 1")
    arms = simulate.arms(args.scenario)
    service = simulate.Simulation(
        scenario=args.scenario,
        accounts=args.accounts,
        seed=args.seed,
        days=args.days,
        pre_days=args.pre_days,
        treatments=arms[1:],
    )
    simulate.stream(service, args.out, processes=args.processes)
    print(f"wrote {args.out}: {args.accounts:,} accounts in the arms {', '.join(arms)}, with the truth beside them")
    return 0


def _portrait(args: argparse.Namespace) -> int:
    """Write the page; an anchor that is missed is a check that failed."""
    from helpers import portrait
    from helpers.report import index

    found = portrait.write(args.out, accounts=args.accounts, seed=args.seed)
    if args.out == Path("reports") / index.PORTRAIT:
        index.write(args.out.parent)
    missed = found.loc[~found["holds"], "anchor"].tolist()
    print(f"wrote {args.out}: {len(found) - len(missed)} of {len(found)} figures hold")
    print("".join(f"missed: {name}\n" for name in missed), end="")
    return 1 if missed else 0


def _calibrate(args: argparse.Namespace) -> int:
    """Print a line for each type of metric; one that is outside the bounds is a check that failed."""
    import numpy as np

    from helpers import calibration

    kinds = calibration.pick(args.only)
    calibration.check(args.n, args.replicates)
    worlds = calibration.worlds(args.scenario, accounts=calibration.PER_DRAWN * args.n, seed=args.seed)
    print(f"{args.replicates:,} experiments with {args.scenario}, as many without; {args.n:,} accounts in each arm")
    print(calibration.HEADER, flush=True)
    outside, rng = 0, np.random.default_rng([args.seed, *args.scenario.encode()])  # each scenario its own accounts
    for found in calibration.calibrate(*worlds, kinds=kinds, n=args.n, replicates=args.replicates, rng=rng):
        print(calibration.row(found), flush=True)
        outside += found.holds is False
    print(calibration.BOUNDS)
    return 1 if outside else 0


def _check(args: argparse.Namespace) -> int:
    from helpers import brief, handover, launch, study

    if args.assignment:
        if len(args.launch) > 1:
            raise ParameterError("--assignment is the draw of one launch; name that launch alone")
        one = launch.load(args.launch[0])
        file = handover.read(args.assignment)
        check = handover.verify(one, handover.frame(one, args.frame), file)
        print(f"{args.assignment}: {check.detail}")
        return 0 if check.passed else 1
    if args.frame:
        raise ParameterError("--frame goes with --assignment: it is what the file was drawn from")
    code = 0
    for path in args.launch:
        try:
            data = study.open(launch.load(path))
            print(brief.describe(data), flush=True)
            code = max(code, int(brief.arm_counts(data).passed is False))
        except PremiereError as error:
            code = _refuse(error)
    return code


def _draw(args: argparse.Namespace) -> int:
    from helpers import handover, launch

    one = launch.load(args.launch)
    key = None if args.accounts else handover.secret()
    rows = handover.table(one, handover.frame(one, args.frame), key=key)
    handover.write(rows, args.out)
    arms = ", ".join(f"{arm} {n:,}" for arm, n in rows["arm"].value_counts(sort=False).items())
    frame = f" --frame {args.frame}" if args.frame else ""
    print(f"wrote {args.out}: {arms}; check it later with: premiere check {args.launch}{frame} --assignment {args.out}")
    return 0


def _new(args: argparse.Namespace) -> int:
    from helpers import draft

    out = draft.write(args.table, args.out or Path("launches") / f"{args.table.stem}.yaml")
    print(f"wrote {out}: read every line of it, then run: premiere check {out}")
    return 0


def _lint(args: argparse.Namespace) -> int:
    from helpers import launch, linter, study

    found = []
    for path in args.launch:
        spreads = linter.measured(study.open(launch.load(path))) if args.data else None
        found.append((path.name, linter.lint_file(path, spreads)))
    if args.format == "json":
        print(linter.to_json(found))
    else:
        print("\n".join(linter.to_text(name, findings) for name, findings in found))
    return 1 if any(f.blocks for _, findings in found for f in findings) else 0


def _plan(args: argparse.Namespace) -> int:
    from helpers import launch, plan
    from helpers.report import index

    one = launch.load(args.launch)
    out = plan.write(one, args.out or Path("reports") / index.PLANS / f"{one.name}.html")
    if not args.out:
        index.write(Path("reports"))
    print(f"wrote {out}")
    return 0


def _report(args: argparse.Namespace) -> int:
    """Check everything that can be checked, then run: launches, plans, parameters, data, and only then kernels."""
    from dataclasses import replace

    from helpers import launch, linter, plan, register, study, units
    from helpers.report import index, runner

    date = _date(args.date)
    if args.jobs < 1:
        raise ParameterError(f"--jobs is {args.jobs}, must be at least 1")
    given = dict(_pair(text) for text in args.given)
    launches = [launch.load(path) for path in args.launch]
    subjects = [
        runner.Subject(
            name=one.name, title=one.title or one.name, path=path, content_hash=one.content_hash, data_hash=""
        )
        for one, path in zip(launches, args.launch, strict=True)
    ]
    runner.plan(subjects, NOTEBOOKS, given, args.only)
    for one in launches:
        one.judged(given.get("treatment", ""))
        linter.check(one, linter.lint(one))
    for i, one in enumerate(launches):
        data = study.open(one)
        units.load(data)
        findings = linter.lint(one, linter.measured(data))
        linter.check(one, findings)
        register.note(one, data.fingerprint, dt.datetime.now(dt.UTC).date())
        standing = register.standing(one)
        subjects[i] = replace(
            subjects[i],
            data_hash=data.fingerprint or "not known",
            label=standing.label,
            remarks=(*standing.why, *linter.overridden(findings)),
        )
    jobs = runner.plan(subjects, NOTEBOOKS, given, args.only)
    for one in (one for one in launches if one.context):
        plan.write(one, args.out / index.PLANS / f"{one.name}.html")
    return runner.run(jobs, out=args.out, date=date, workers=args.jobs, replace=args.replace)


def _date(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text) if text else dt.datetime.now(dt.UTC).date()
    except ValueError:
        raise ParameterError(f"--date is {text!r}, expected a day such as 2026-11-21") from None


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ParameterError(f"-p {text!r} is not NAME=VALUE, for example -p seed=7")
    return name.strip(), value


if __name__ == "__main__":
    sys.exit(main())

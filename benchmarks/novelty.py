"""How often notebook 07 finds a planted novelty, and how often it alarms where there is none.

`python benchmarks/novelty.py [RUNS]`. Each run simulates a service of its own with events and all, so that it takes
some seconds.
"""

from __future__ import annotations

import os
import sys
import tempfile

from helpers import metrics, retention, study
from helpers.launch import Launch
from helpers.timeline import course, fading

LAUNCHES = {  # scenario: accounts in control and treatment
    "show_premiere+stable": (10_000, 10_000),
    "show_premiere+honeymoon": (10_000, 10_000),
    "homepage_optimistic+stable": (25_000, 25_000),
    "homepage_optimistic+honeymoon": (25_000, 25_000),
}


def alarm(scenario: str, seed: int) -> tuple[bool, bool]:
    """Say whether one launch's effect is called fading (or settling lower), and its viewers' going on."""
    control, treated = LAUNCHES[scenario]
    plan = Launch.model_validate(
        {
            "name": "calibration",
            "data": {"source": "simulate", "scenario": scenario, "accounts": 2 * (control + treated), "seed": seed},
            "arms": {"control": "control", "treatment": "treated"},
            "dates": {"start": "2026-09-07", "days": 28, "pre_days": 28},
            "sampling": {"n": {"control": control, "treated": treated}},
            "metrics": {"north_star": "hours_per_account_week"},
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PREMIERE_CACHE"] = folder
        data = study.open(plan)
        weekly = course.relative(course.measure(data, metrics.get("hours_per_account_week"))["all"])
        viewers = retention.honeymoon(retention.read(data, by=["engagement"]), strata="engagement")
        answer = fading.verdict(fading.early_minus_late(weekly), fading.late(weekly), better="higher", viewers=viewers)
    return answer.detail.startswith(("Fades", "Settles")), viewers.passed is False


def main(runs: int) -> None:
    """Print the share of alarms for each scenario."""
    for scenario in LAUNCHES:
        found = [alarm(scenario, seed) for seed in range(1, runs + 1)]
        either, viewers = (sum(column) for column in zip(*found, strict=True))
        print(f"{scenario}: alarm in {either} of {runs} runs, by the viewers in {viewers}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)

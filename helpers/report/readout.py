"""What a notebook concludes: shown as its last output, read by the runner, listed in the index."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from helpers.errors import ParameterError
from helpers.report import theme
from helpers.results import Check, Claim, Decision, Estimate, NotEstimable, Verdict, titled
from helpers.wording import FIRST_SCREEN_WORDS, unplain

MIME = "application/vnd.premiere.readout+json"
DECISIONS: dict[Decision, tuple[str, str]] = {  # its tone, and what it means in words
    "INVALID": ("bad", "The data do not allow a reading"),
    "ROLL BACK": ("bad", "Take it back"),
    "DELAY/REWORK": ("warn", "Rework before it goes on"),
    "HOLD": ("warn", "Wait: not enough is known"),
    "TARGETED": ("warn", "Only where it works"),
    "PROCEED": ("good", "Go on to the next stage"),
    "SHIP": ("good", "Open it to everybody"),
}
STATUSES = {  # tone and sign; the words are the status itself
    "met": ("good", "✓"), "better": ("good", "✓"), "passed": ("good", "✓"),
    "not met": ("warn", "✗"), "worse": ("bad", "✗"), "breached": ("bad", "✗"),
    "cannot tell": ("plain", "?"), "not estimable": ("plain", "–"),
}  # fmt: skip
ROLES = {"north_star": "north star"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Readout:
    """State a notebook's answer for the page, the index and other programs; display it as the last output.

    `headline` is one sentence for the index. `answer` is one to three plain sentences, with the verdict's at most 120
    words in all, without the jargon of `wording`; a difference that was not found is never "no effect". "Unchanged" is
    said of a passed equivalence among the claims, and with its margin.
    `decision` defaults to the verdict's, `estimates` to those of the claims. The page
    shows `titles`, by metric, instead of names, and `unit` with estimates that no claim gives one. `planned` is what
    the launch wrote down to do at this decision, in its own words, which are shown below the answer as they are.

    Raises:
        ParameterError: the answer is too long or not plain, the decision contradicts the verdict, or a number is
            NaN or infinite (say NotEstimable with the reason instead).

    >>> Readout(headline="Early access raised viewing.", answer=("Viewing rose by 4%.",)).to_json()["headline"]
    'Early access raised viewing.'
    """

    headline: str
    answer: tuple[str, ...]
    decision: Decision | None = None
    claims: tuple[Claim, ...] = ()
    estimates: tuple[Estimate | NotEstimable, ...] = ()
    checks: tuple[Check, ...] = ()
    verdict: Verdict | None = None
    planned: str = ""
    titles: Mapping[str, str] = field(default_factory=dict)
    unit: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.answer, str) or not 1 <= len(self.answer) <= 3:
            raise ParameterError("Readout: answer must be a tuple of one to three sentences")
        shown = (*self.answer, *([self.verdict.sentence] if self.verdict else []))
        words = sum(len(sentence.split()) for sentence in shown)
        if words > FIRST_SCREEN_WORDS:
            raise ParameterError(f"Readout: the answer has {words} words, at most {FIRST_SCREEN_WORDS} are read")
        for sentence in (self.headline, *shown):
            if not sentence.strip():
                raise ParameterError("Readout: the headline and each sentence of the answer must say something")
            if found := unplain(sentence, self.claims):
                raise ParameterError(f"Readout: {found!r} is not plain or not shown by any data, in {sentence!r}")
        if self.verdict and self.decision not in (None, self.verdict.decision):
            raise ParameterError(f"Readout: decision {self.decision} contradicts the verdict {self.verdict.decision}")
        if self.verdict:
            object.__setattr__(self, "decision", self.verdict.decision)
        if self.decision is not None and self.decision not in DECISIONS:
            raise ParameterError(f"Readout: decision {self.decision!r} is not one of {', '.join(DECISIONS)}")
        if not self.estimates:
            object.__setattr__(self, "estimates", tuple(claim.estimate for claim in self.claims))
        self.to_json()  # refuses what is not a number while the notebook can still say where it came from

    @property
    def tone(self) -> str:
        """Give the colour of the decision; going on is not all good where no guardrail was there to find harm."""
        tone = DECISIONS[self.decision][0] if self.decision else "plain"
        blind = self.verdict is not None and not any(c.role == "guardrail" for c in self.claims)
        return "warn" if tone == "good" and blind else tone

    def to_json(self) -> dict[str, Any]:
        """Return the Readout as plain JSON values; `estimates` hold exactly the fields of Estimate."""
        values: dict[str, Any] = _plain(
            {
                "headline": self.headline,
                "answer": self.answer,
                "decision": self.decision,
                "estimates": [asdict(e) for e in self.estimates if isinstance(e, Estimate)],
                "not_estimable": [asdict(e) for e in self.estimates if isinstance(e, NotEstimable)],
                "claims": [asdict(claim) for claim in self.claims],
                "checks": [asdict(check) for check in self.checks],
                "verdict": self.verdict and asdict(self.verdict),
                "planned": self.planned,
            },
            "Readout",
        )
        return values

    def to_html(self) -> str:
        """Return the answer, the scorecard of the claims and the checks as one piece of HTML with its own style."""
        shown: list[tuple[Estimate | NotEstimable, Claim | None]]
        shown = [(claim.estimate, claim) for claim in self.claims]
        shown = shown or [(e, None) for e in self.estimates if not self._said(e)]
        levels = {e.level for e, _ in shown if isinstance(e, Estimate)}
        return (
            theme.environment()
            .get_template("readout.html.j2")
            .render(
                readout=self,
                tone=self.tone,
                meaning=DECISIONS[self.decision][1] if self.decision else "",
                interval=f"{levels.pop():.0%} interval" if len(levels) == 1 else "Interval",
                rows=[_row(estimate, claim, self.titles, self.unit) for estimate, claim in shown],
                one_level=len(levels) < 2,
                statuses=STATUSES,
            )
        )

    def _said(self, estimate: Estimate | NotEstimable) -> bool:
        """Say whether the answer itself gives the reason why there is no estimate."""
        return isinstance(estimate, NotEstimable) and any(estimate.reason in sentence for sentence in self.answer)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:  # noqa: ARG002
        return {MIME: self.to_json(), "text/html": self.to_html(), "text/plain": str(self)}

    def __str__(self) -> str:
        return f"{self.decision or 'Answer'}: {' '.join(self.answer)}"


def percent(value: float, *, signed: bool = False, digits: int = 1) -> str:
    """Write a share as a percentage.

    >>> percent(-0.0123, signed=True), percent(0.5)
    ('−1.2%', '50.0%')
    """
    return number(value * 100, digits, signed=signed) + "%"


def number(value: float, digits: int, *, signed: bool = False) -> str:
    """Write a number with so many decimals and a true minus sign; what rounds to zero has no sign.

    >>> number(-1234.5, 1), number(0.04, 1, signed=True)
    ('−1,234.5', '0.0')
    """
    rounded = round(value, digits) + 0.0
    return f"{rounded:{'+' if signed and rounded else ''},.{digits}f}".replace("-", "−")


def digits(low: float, high: float) -> int:
    """Choose decimals such that half the interval's width shows two significant digits.

    >>> digits(-0.012, 0.034), digits(-120, 340)
    (3, 0)
    """
    half = abs(high - low) / 2
    return min(6, max(0, 1 - math.floor(math.log10(half)))) if half else 3


def p_value(p: float) -> str:
    """Write a p-value with three decimals, and none as exactly zero.

    >>> p_value(0.0123), p_value(1e-9)
    ('0.012', '< 0.001')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def describe(estimate: Estimate, unit: str) -> dict[str, str]:
    """Write an estimate's numbers in its unit, to the decimals its interval supports; no share moves by more than 1."""
    scale, mark = (100, "%") if unit == "share" else (1, "%" if unit == "%" else "")
    step, most = "pp" if mark else "", 1.0 if unit == "share" else math.inf
    lower, upper = max(estimate.low, -most), min(estimate.high, most)
    decimals = digits(lower * scale, upper * scale)

    def show(value: float, *, signed: bool = False) -> str:
        return number(value * scale, decimals, signed=signed)

    words = {
        "control": show(estimate.control) + mark,
        "treatment": show(estimate.treatment) + mark,
        "change": show(estimate.diff, signed=True),
        "low": show(lower, signed=True),
        "high": show(upper, signed=True),
        "step": step,
        "relative": "",
        "relative_interval": "",
    }
    rel, low, high = estimate.rel, estimate.rel_low, estimate.rel_high
    if rel is not None and low is not None and high is not None:  # without limits, control may be next to nothing
        decimals = digits(100 * low, 100 * high)
        words["relative"] = percent(rel, signed=True, digits=decimals)
        words["relative_interval"] = " to ".join(percent(v, signed=True, digits=decimals) for v in (low, high))
    return words


def _row(
    estimate: Estimate | NotEstimable, claim: Claim | None, titles: Mapping[str, str], unit: str
) -> dict[str, Any]:
    """Prepare one line of the scorecard."""
    unit = claim.unit if claim else unit
    row: dict[str, Any] = {
        "title": claim.title if claim else titled(estimate.metric, titles),
        "role": ROLES.get(claim.role, claim.role) if claim else "",
        "unit": "" if unit in ("share", "%") else unit,
        "slice": ", ".join(f"{key}: {value}" for key, value in estimate.slice.items()),
        "claim": claim,
        "asked": _asked(claim) if claim else "",
        "words": minus(claim.meaning or claim.words) if claim and not isinstance(estimate, NotEstimable) else "",
    }
    if isinstance(estimate, NotEstimable):
        return row | {"reason": estimate.reason}
    drawing = _drawing(estimate, claim)
    adjusted = estimate.p_adjusted
    p = {
        "p": p_value(estimate.p),
        "p_adjusted": "" if adjusted is None else p_value(adjusted),
        "together": _together(estimate, unit),
    }
    return (
        row
        | describe(estimate, unit)
        | p
        | {"drawing": drawing, "reason": "", "level": f"at {100 * estimate.level:.3g}%"}
    )


def _together(estimate: Estimate, unit: str) -> str:
    """Write the interval that holds for the whole family, "above 0 to +3.1" where its end at 0 is excluded."""
    low, high, p = estimate.low_adjusted, estimate.high_adjusted, estimate.p_adjusted
    if low is None or high is None or p is None:
        return ""
    scale = 100 if unit == "share" else 1
    low, high = (max(low, -1.0), min(high, 1.0)) if unit == "share" else (low, high)
    decimals = digits(low * scale, high * scale)
    claimed = p < 1 - estimate.level
    lower = "above 0" if claimed and low == 0 else number(low * scale, decimals, signed=True)
    upper = "below 0" if claimed and high == 0 else number(high * scale, decimals, signed=True)
    return f"{lower} to {upper}"


def _asked(claim: Claim) -> str:
    """Say whether the launch asked for a target or for a margin."""
    kind = {"equivalence": "equivalence", "non-inferiority": "margin", "superiority": "target"}[claim.aim]
    text = claim.bound_text.replace("-", "−")
    return text if not text or text.startswith(kind) else f"{kind} {text}"


def minus(text: str) -> str:
    """Write the minus signs of numbers as such.

    >>> minus("within the margin of -2%, read-only")
    'within the margin of −2%, read-only'
    """
    return re.sub(r"(?<!\w)-(?=\d)", "−", text)


def _drawing(estimate: Estimate, claim: Claim | None) -> dict[str, Any]:
    """Place interval, zero and bound on a strip 120 wide, zero in its middle, on the row's own scale."""
    bound = claim.bound if claim else None
    reach = 1.12 * max(abs(value) for value in (estimate.low, estimate.high, bound or 0.0)) or 1.0
    low, point, high, at = (60 + 60 * v / reach for v in (estimate.low, estimate.diff, estimate.high, bound or 0.0))
    zones = []
    if claim and claim.aim == "equivalence" and bound is not None:
        left = 120 - at
        zones = [
            {"at": left, "x": 0.0, "width": left, "tone": "bad"},
            {"at": at, "x": at, "width": 120 - at, "tone": "bad"},
        ]
    elif claim and bound is not None:
        target = (bound >= 0) == (claim.better == "higher")  # a target lies on the good side of zero, a margin not
        start, end = (at, 120) if bound > 0 or (bound == 0 and claim.better == "higher") else (0, at)
        zones = [{"at": at, "x": start, "width": end - start, "tone": "good" if target else "bad"}]
    return {"low": low, "high": high, "point": point, "zones": zones}


def _plain(value: Any, where: str) -> Any:
    """Turn a value into what JSON can hold, or say which number it cannot."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if hasattr(value, "item"):  # a NumPy scalar
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise ParameterError(f"{where} is {value}; say NotEstimable with the reason, or None where a field allows it")
    if value is not None and not isinstance(value, str | int | float | bool):
        raise ParameterError(f"{where} is {json.dumps(value, default=repr)}, expected a number, a text or None")
    return value

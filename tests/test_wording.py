"""The first screen: what readers of experiments have written elsewhere is caught, and what the pages say is not."""

import pytest

from helpers import wording

ABSENT = """Churn did not differ. | Churn was flat. | Churn is the same in both arms. | Tickets stayed stable. |
There is no evidence of harm. | It had no measurable impact. | There was no loss. | Retention held steady. |
Crashes haven't changed. | The launch made no difference. | Support tickets remained at 1.5%. | Churn was not affected. |
We see no increase in churn. | The page is neutral for churn. | It works without any harm. | Nothing changed. |
Churn is unaffected. | Quality was maintained. | The change is harmless. | Hours are on par with control. |
No effects were found. | Watching time is not meaningfully different. | There are no signs of harm. |
Churn did not rise. | Churn did not increase. | Tickets didn't go up. | Churn is in line with control. |
It showed no movement. | Churn was similar. | Retention is comparable. | Churn was equal in both arms. |
Retention remains broadly similar. | Churn is as before. | Crashes barely moved. | Hours hardly changed. |
Harm is ruled out. | We can rule out any harm. | It is a neutral result. | Hours have not fallen. |
The launch is safe. | It is perfectly safe. | On churn we see nothing. | There was no drop in churn. | We saw no rise."""
JARGON = """p = 0.03 | p<0.05 | with a p-value of 0.2 | 95% CI | Welch | SRM | MDE | ITT | CUPED | non-inferior | alpha | variance |
bootstrap | z-test | t-tests | chi-square | chi-squared | posterior | Bayesian | statistically significant |
standard errors | a confidence interval | Bonferroni | \u03b2 | degrees of freedom | the null hypothesis |
z = 3.1 | t = 2.2 | 4 SE | SD of 3 | CI excludes zero | 95% confidence | 95 % confidence | FPR | stat sig | stat-sig |
Type-I error | type II | hazard ratio | delta method | Fieller | log-odds | odds ratio"""
PLAIN = """Hours rose by 4%. | Hours came out 3.0% higher (between 2.0% lower and 8.0% higher). |
Neither a gain nor a loss can be told from chance. | Over all accounts no gain is shown. |
Harm beyond the margin cannot be ruled out yet; if there is none, about 62,000 more accounts in each arm would show it. |
No loss beyond 1% is shown; up to 3% is not ruled out. | Every guardrail stayed within its margin. |
Their effects differ by no more than chance allows, which does not show that they are the same. |
If the launch does no harm, these accounts rule out harm beyond the margin. | Hours gained in country SE; country CI. |
+10% cannot be checked, no relative effect, because the control value is not above 0. |
Minutes are higher, and within ±2%. | Viewers finish it as often as usual (comparable titles 32% to 73%): in line. |
No step is shown to fall short of comparable titles. | A gain of 4% is ruled out. | Hours gained in country SD. |
At look 1 of 2, after day 7, no bound is crossed. | The arms were drawn as planned, equal parts of all regions. |
A fall of more than 25% is ruled out. | Only a rise of more than 5% is ruled out, so harm beyond the margin remains possible. |
Worse already, and harm beyond the margin of 10% is established. | Of 40 comparable titles 30 did better. |
The rows that are left are not comparable. | Not asked, because viewing did not rise for certain. |
Hours could not be estimated: the values do not vary within either arm."""


def sentences(text):
    return [sentence.strip() for sentence in text.split("|")]


@pytest.mark.parametrize("sentence", [*sentences(ABSENT), *sentences(JARGON)])
def test_what_no_data_show_and_what_few_understand_is_found(sentence):
    assert wording.unplain(sentence)
    assert wording.unplain(f"Hours rose by 4%, and {sentence}")


@pytest.mark.parametrize("sentence", sentences(PLAIN))
def test_what_the_pages_say_is_plain(sentence):
    assert wording.unplain(sentence) == ""

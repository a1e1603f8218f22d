"""Cron expressions: what crontab and Kubeflow take is written as Kubeflow takes it, the rest is refused by field."""

import pytest

from pipeline.kubeflow.cron import kubeflow_cron
from pipeline.settings import SettingsError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *((text, "it must have five fields") for text in ("", "* * * *", "daily", "@every 1h", "0 0 0 3 * * *")),
        ("a b c d e f g", "it must have five fields"),
        ("0 3 * * * ; rm", "it must have five fields"),
        ("TZ=Europe/Paris 0 3 * *", "its minute is 'TZ=Europe/Paris'"),
        ("61 25 * * *", "its minute is '61', which must be 0 to 59"),
        ("0 25 * * *", "its hour is '25', which must be 0 to 23"),
        ("99 0 3 * * *", "its second is '99'"),
        ("0 3 0 * *", "its day is '0', which must be 1 to 31"),
        ("0 3 * 13 *", "its month is '13', which must be 1 to 12 or JAN to DEC"),
        ("0 3 * FOO *", "its month is 'FOO'"),
        ("0 3 * MON *", "its month is 'MON'"),
        ("0 3 * * 8", "its day of the week is '8', which must be 0 to 6 or SUN to SAT"),
        ("*/0 * * * *", "its minute is '\\*/0'"),
        ("1-70 * * * *", "its minute is '1-70'"),
        ("H H * * *", "its minute is 'H'"),
        ("0 R * * *", "its hour is 'R'"),
        ("0 3 L * *", "its day is 'L'"),
        ("0 3 15W * *", "its day is '15W'"),
        ("0 3 * * MON#2", "its day of the week is 'MON#2'"),
        ("0 0 31 2 *", "it would never run"),
        ("0 0 30 2 ?", "it would never run"),
        ("0 0 0 31 4,6,9,11 *", "it would never run"),
        ("0 0 31 2 */2", "it would never run"),  # Kubeflow wants both where one begins with *
    ],
)
def test_a_wrong_expression_is_refused_with_its_field(text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=f"^--cron: is .*; {message}"):
        kubeflow_cron(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 3 * * *", "0 0 3 * * *"),
        ("  0 3 * * *  ", "0 0 3 * * *"),
        ("30 0 3 * * *", "30 0 3 * * *"),
        ("0 0 3 * * ?", "0 0 3 * * ?"),
        ("0 3 ? jan,JUL Mon", "0 0 3 ? jan,JUL Mon"),
        ("*/5 * * * *", "0 */5 * * * *"),
        ("5/15 * * * *", "0 5/15 * * * *"),
        ("0 3 1,15 * MON-FRI", "0 0 3 1,15 * MON-FRI"),
        ("0 0 29 2 *", "0 0 0 29 2 *"),
        ("0 0 31 2 MON", "0 0 0 31 2 MON"),  # Mondays in February
        ("@daily", "0 0 0 * * *"),
        ("@weekly", "0 0 0 * * 0"),
    ],
)
def test_an_expression_gets_six_fields(text: str, expected: str) -> None:
    assert kubeflow_cron(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 3 * * 7", "0 0 3 * * 0"),
        ("0 3 * * 07", "0 0 3 * * 0"),
        ("0 3 * * 5-7", "0 0 3 * * 0,5,6"),
        ("0 3 * * FRI-MON", "0 0 3 * * 0,1,5,6"),
        ("0 22-2 * * *", "0 0 0,1,2,22,23 * * *"),
        ("0 3 1 * 1-7", "0 0 3 1 * 0,1,2,3,4,5,6"),  # not *, which would leave only the first of the month
    ],
)
def test_what_crontab_takes_and_kubeflow_does_not_is_written_out(text: str, expected: str) -> None:
    assert kubeflow_cron(text) == expected

"""``kvbus check-history``: what a recorded history proves. Source: docs/HISTORIES.md, "The command"."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from kvbus.cli.options import OutputOption
from kvbus.cli.output import EXIT_ERROR, EXIT_USAGE, Output, complain, print_json, say, table
from kvbus.errors import HistoryError

if TYPE_CHECKING:
    from kvbus.testing import History, Verdict

_WORDS = {True: "passes", False: "FAILS", None: "undecided"}


class Model(StrEnum):
    """What the operations of a history are about."""

    REGISTER = "register"
    SET = "set"


class Row(NamedTuple):
    """A verdict, and whether it decides if the history passes; the others are for information."""

    verdict: Verdict
    decides: bool


def check_history(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A recorded history, or - for standard input.")],
    model: Annotated[
        Model,
        typer.Option("--model", help="register: put, get, delete, cas; set: add, remove, read.", show_default=False),
    ],
    budget: Annotated[
        int | None,
        typer.Option("--budget", min=1, help="States a search may visit before it gives up; 500,000 if not given."),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Judge what clients saw: is every answer right, is nothing lost? (docs/HISTORIES.md has the format.)

    Ends with 0 if the history passes, with 1 if it does not or if that could not be decided.
    """
    try:
        history = _read(file, model)
    except (HistoryError, OSError) as error:
        _refuse(file, error, output)
        raise typer.Exit(EXIT_USAGE) from error
    unjudged = sum(1 for each in history.operations if each.op not in _kinds(model))
    rows = _judge(history, model, budget)
    passes = all(row.verdict.passed for row in rows if row.decides)
    if output is Output.JSON:
        _print_object(history, model, rows, passes, unjudged)
    else:
        _print_table(history, model, rows, passes)
        if unjudged:
            complain(f"{unjudged} operations are of the other model and were not judged; judge them with its --model")
    if not passes:
        raise typer.Exit(EXIT_ERROR)


def _read(file: str, model: Model) -> History:
    from kvbus.testing import parsed_history

    history = parsed_history(sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes())
    if not history.operations:
        raise HistoryError("it has a header and no operation; record what clients ask and are told")
    if not any(each.op in _kinds(model) for each in history.operations):
        other = Model.SET if model is Model.REGISTER else Model.REGISTER
        raise HistoryError(f"none of its operations is one of {', '.join(_kinds(model))}; try --model {other}")
    return history


def _kinds(model: Model) -> Sequence[str]:
    from kvbus.testing.history import REGISTER_KINDS, SET_KINDS

    return REGISTER_KINDS if model is Model.REGISTER else SET_KINDS


def _refuse(file: str, error: HistoryError | OSError, output: Output) -> None:
    message = f"{'standard input' if file == '-' else file}: {error}"
    if isinstance(error, OSError):
        message = f"{file} cannot be read: {error.strerror}; name a recorded history"
    if output is Output.JSON:
        print_json({"error": {"code": "history", "message": message, "definite": True}})
    else:
        complain(f"kvbus: {message}")


def _judge(history: History, model: Model, budget: int | None) -> list[Row]:
    from kvbus.testing import availability, convergence, growing_revisions, linearizability, lost_writes
    from kvbus.testing.linearizability import DEFAULT_BUDGET

    if model is Model.REGISTER:
        first, second = linearizability(history, budget=budget or DEFAULT_BUDGET), growing_revisions(history)
    else:
        first, second = lost_writes(history), convergence(history)
    # A store need not tell revisions, and one replica has nobody to agree with.
    return [Row(first, True), Row(second, second.judged > 0), Row(availability(history), False)]


def _print_object(history: History, model: Model, rows: Sequence[Row], passes: bool, unjudged: int) -> None:
    print_json(
        {
            "model": model.value,
            "header": history.header,
            "operations": len(history.operations),
            "keys": len(_keys(history)),
            "not_judged": unjudged,
            "passes": passes,
            "verdicts": [
                {
                    "checker": verdict.checker,
                    "ok": verdict.ok,
                    "decides": decides,
                    "reason": verdict.reason,
                    "judged": verdict.judged,
                    "counters": dict(verdict.counters),
                    "details": list(verdict.details),
                }
                for verdict, decides in rows
            ],
        }
    )


def _print_table(history: History, model: Model, rows: Sequence[Row], passes: bool) -> None:
    from kvbus.testing.wording import counted

    say(f"{counted(len(history.operations), 'operation')} on {counted(len(_keys(history)), 'key')}, model {model}\n")
    table(
        ["checker", "verdict", "judged", "reason"],
        [[row.verdict.checker, _word(row), str(row.verdict.judged), row.verdict.reason] for row in rows],
        wrapped=["reason"],
    )
    for verdict, decides in rows:
        if decides and not verdict.passed:
            say(f"\n{verdict.checker}: {verdict.reason}")
            for line in verdict.details:
                say(f"  {line}")
    deciding = [verdict.checker for verdict, decides in rows if decides and (passes or not verdict.passed)]
    say(f"\nthe history {'passes' if passes else 'does not pass'}: {', '.join(deciding)}")


def _word(row: Row) -> str:
    if not row.verdict.judged:
        return "–"
    word = _WORDS[row.verdict.ok]
    return word if row.decides else f"({word.lower()})"


def _keys(history: History) -> dict[str, None]:
    return dict.fromkeys(each.key for each in history.operations)

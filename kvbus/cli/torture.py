"""``kvbus torture``: campaigns against the simulated world."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from kvbus.cli.options import OutputOption
from kvbus.cli.output import EXIT_USAGE, Output, complain, failures_shown, print_json, say, table

if TYPE_CHECKING:
    from kvbus.torture.campaign import Campaign, Row
    from kvbus.torture.plan import Plan
    from kvbus.torture.run import Result

_SEEDS = "1-20"
_FAILED = 1
_INTERRUPTED = 130
_SHOWN_SEEDS = 10
_MOST_SECONDS = 100_000.0


def torture(
    mode: Annotated[str, typer.Option(help="Which mode to torture.")] = "ap",
    seeds: Annotated[
        str | None, typer.Option(help="1-300, or 4,17,23; 1-20 if not given.", metavar="SEEDS", show_default=False)
    ] = None,
    nodes: Annotated[int, typer.Option(min=1, max=100, help="Nodes in each world.")] = 5,
    seconds: Annotated[float, typer.Option(min=1.0, help="Virtual seconds of workload a seed.")] = 20.0,
    theme: Annotated[str | None, typer.Option(help="One kind of trouble for all seeds.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.0, help="Begin no new seed after this time.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Keep outcomes here; go on where it was stopped.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; all cores if not given.")] = None,
    plan: Annotated[Path | None, typer.Option(help="Run this plan (JSON) instead of seeds.")] = None,
    save: Annotated[
        Path | None, typer.Option(help="With one seed or --plan: write plan, history and story here.")
    ] = None,
    shrink: Annotated[bool, typer.Option("--shrink", help="Shorten the failing plan of one seed or --plan.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Run seeded worlds full of faults and judge what clients were told.

    The same seed gives the same run, to the byte. A mode's known gaps are shown and do not fail the campaign.
    """
    with failures_shown(output, unusable=EXIT_USAGE):
        from kvbus.errors import ConfigError
        from kvbus.plugins import mode_plugin
        from kvbus.torture.campaign import Campaign, parse_seeds
        from kvbus.torture.nemesis import THEMES

        mode_plugin(mode)
        if theme is not None and theme not in THEMES:
            raise ConfigError(f"no theme {theme!r}; there are {', '.join(THEMES)}")
        if not seconds <= _MOST_SECONDS:
            raise ConfigError(f"--seconds is at most {_MOST_SECONDS:.0f}; more seeds find more than longer ones")
        if plan is not None and seeds is not None:
            raise ConfigError("--plan and --seeds are two ways to say what runs; give one of them")
        campaign = Campaign(mode=mode, seeds=parse_seeds(seeds or _SEEDS), nodes=nodes, seconds=seconds, theme=theme)
        if resume is not None and (plan is not None or save is not None or shrink):
            raise ConfigError(
                "--resume keeps the outcomes of many seeds; leave it out with --plan, --save and --shrink"
            )
        if plan is not None or save is not None or shrink:
            failed = _one_run(campaign, plan, save, shrink, output)
        else:
            failed = _many_runs(campaign, minutes, resume, jobs, output)
    if failed:
        raise typer.Exit(_FAILED)


def _many_runs(
    campaign: Campaign, minutes: float | None, resume: Path | None, jobs: int | None, output: Output
) -> bool:
    import os
    import signal
    from time import monotonic

    from kvbus.torture.campaign import Journal, run_campaign

    begun = monotonic()
    journal = Journal(resume, campaign) if resume is not None else None
    done = {seed: row for seed, row in journal.done.items() if seed in campaign.seeds} if journal else {}
    rows = list(done.values())

    def goes_on() -> bool:
        return minutes is None or monotonic() - begun < minutes * 60

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    is_stopped = False
    processes = min(jobs or os.cpu_count() or 1, max(1, len(campaign.seeds) - len(rows)))
    with _progress(len(campaign.seeds)) as advance:
        advance(len(rows), _failing(rows))
        try:
            for row in run_campaign(campaign, jobs=processes, done=done, goes_on=goes_on):
                if journal is not None:
                    journal.add(row)
                rows.append(row)
                advance(1, _failing(rows))
        except KeyboardInterrupt:
            is_stopped = True
    rows.sort(key=lambda row: cast("int", row["seed"]))
    _show_campaign(campaign, rows, monotonic() - begun, processes, output)
    if is_stopped:
        complain(f"stopped after {len(rows)} of {len(campaign.seeds)} seeds")
        raise typer.Exit(_INTERRUPTED)
    if not rows:
        complain("no seed was run; give it more --minutes")
    return bool(_failing(rows)) or not rows


def _failing(rows: list[Row]) -> int:
    return sum(1 for row in rows if row["failed"])


@contextmanager
def _progress(total: int) -> Generator[Callable[[int, int], None]]:
    """Draw a bar on a terminal's standard error; yields ``advance(seeds, failing so far)``."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    screen = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("seeds", total=total)

        def advance(seeds: int, failing: int) -> None:
            bar.update(task, advance=seeds, description=f"seeds, {failing} failing" if failing else "seeds")

        yield advance


def _show_campaign(campaign: Campaign, rows: list[Row], seconds: float, processes: int, output: Output) -> None:
    from kvbus.torture.run import GAPS

    gaps = GAPS.get(campaign.mode, {})
    virtual = sum(cast("float", row["virtual_seconds"]) for row in rows)
    if output is Output.JSON:
        print_json({
            **campaign.settings(), "gaps": dict(gaps), "asked_seeds": len(campaign.seeds),
            "virtual_seconds": virtual, "real_seconds": round(seconds, 3), "processes": processes, "seeds": rows,
        })  # fmt: skip
        return
    _show_verdicts(rows, gaps)
    if len(rows) < len(campaign.seeds):
        say(f"\n{len(rows)} of {len(campaign.seeds)} seeds; --resume FILE goes on next time")
    say(f"\n{virtual:,.0f} virtual seconds in {seconds:,.1f} s on {processes} process{'' if processes == 1 else 'es'}")
    failing = [row for row in rows if row["failed"]]
    for row in failing[:_SHOWN_SEEDS]:
        broke = ", ".join(cast("list[str]", row["failed"]))
        again = f"kvbus torture --mode {campaign.mode} --seeds {row['seed']}{_as_asked(campaign)} --shrink --save DIR"
        say(f"seed {row['seed']} ({row['theme']}) broke {broke}; shorten it: {again}")
    if len(failing) > _SHOWN_SEEDS:
        say(f"… and {len(failing) - _SHOWN_SEEDS} more failing seeds; -o json has all")


def _as_asked(campaign: Campaign) -> str:
    """Return the options without which a seed would not give the same run."""
    asked = "" if campaign.nodes == 5 else f" --nodes {campaign.nodes}"
    asked += "" if campaign.seconds == 20.0 else f" --seconds {campaign.seconds:g}"
    return asked + (f" --theme {campaign.theme}" if campaign.theme else "")


def _show_verdicts(rows: list[Row], gaps: Mapping[str, str]) -> None:
    """Print a row a checker: in how many seeds it held, and what the first failing one said."""
    found: dict[str, list[tuple[Row, Mapping[str, object]]]] = {}
    for row in rows:
        for checker, verdict in cast("Mapping[str, Mapping[str, object]]", row["verdicts"]).items():
            # One node's replicas, say, cannot differ: there was nothing to judge.
            if verdict["judged"] or verdict["ok"] is not None:
                found.setdefault(checker, []).append((row, verdict))
    lines: list[list[str]] = []
    for checker, verdicts in found.items():
        broken = [(row, verdict) for row, verdict in verdicts if verdict["ok"] is not True]
        judged = sum(cast("int", verdict["judged"]) for _, verdict in verdicts)
        word = "held" if not broken else "known gap" if checker in gaps else "BROKEN"
        said = gaps.get(checker, "") if broken else ""
        if broken and checker not in gaps:
            said = f"seed {broken[0][0]['seed']}: {broken[0][1]['reason']}"
        lines.append([checker, word, str(len(verdicts) - len(broken)), str(len(broken)), str(judged), said])
    table(["checker", "verdict", "held in", "broke in", "judged", "why"], lines, wrapped=["why"])


def _one_run(campaign: Campaign, plan: Path | None, save: Path | None, shortens: bool, output: Output) -> bool:
    from kvbus.errors import ConfigError
    from kvbus.torture.campaign import prepare
    from kvbus.torture.saving import run_and_save

    if plan is None and len(campaign.seeds) != 1:
        raise ConfigError("--save and --shrink take one seed: --seeds 17, or --plan FILE")
    prepare()
    chosen = campaign.plan(campaign.seeds[0]) if plan is None else _read_plan(plan)
    if shortens:
        chosen = _shortened(chosen)
    result, files = run_and_save(chosen, save)
    _show_run(result, files, output)
    return bool(result.failed())


def _read_plan(path: Path) -> Plan:
    from kvbus.errors import ConfigError
    from kvbus.torture.plan import read_plan

    try:
        return read_plan(path.read_bytes().decode(errors="replace"))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); name a plan that --save wrote") from error


def _shortened(plan: Plan) -> Plan:
    """Shorten a plan at its first broken promise, or, where all were kept, at its first known gap."""
    from kvbus.torture.run import run_plan
    from kvbus.torture.shrink import fails_alike, shrink

    result = run_plan(plan)
    broken = result.failed() or [verdict for verdict in result.verdicts if not verdict.passed]
    if not broken:
        complain("nothing failed, so there is nothing to shorten")
        return plan
    checker = broken[0].checker
    shorter, tries = shrink(plan, fails_alike(checker))
    complain(
        f"{checker} still fails with {len(shorter.faults)} of {len(plan.faults)} faults in {shorter.seconds:g} of "
        f"{plan.seconds:g} s ({tries} runs)"
    )
    return shorter


def _show_run(result: Result, files: list[Path], output: Output) -> None:
    from kvbus.torture.campaign import row_of
    from kvbus.torture.run import GAPS

    row = row_of(result)
    if output is Output.JSON:
        plan = json.loads(result.plan.to_json())
        print_json({"plan": plan, "files": [str(file) for file in files], "seeds": [row]})
        return
    _show_verdicts([row], GAPS.get(result.plan.mode, {}))
    for verdict in result.verdicts:
        if not verdict.passed:
            for line in verdict.details:
                say(f"{verdict.checker}: {line}")
    say(f"\ntrace {result.trace_hash}, {result.virtual_seconds:g} virtual seconds, {result.operations} operations")
    for file in files:
        say(f"wrote {file}")

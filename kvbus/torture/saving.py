"""One run's papers: the plan, the history and the story, each a file that a person can read."""

from __future__ import annotations

from pathlib import Path

from kvbus.sim.world import World
from kvbus.testing.history_file import write_history
from kvbus.torture.plan import Plan
from kvbus.torture.run import Result, run_plan


def run_and_save(plan: Plan, folder: Path | None) -> tuple[Result, list[Path]]:
    """Run a plan; write ``plan.json``, ``history.jsonl`` and ``story.txt`` into ``folder``, which is made if missing.

    Raises:
        OSError: a file cannot be written.
    """
    seen: list[World] = []
    result = run_plan(plan, watch=seen.append)
    if folder is None:
        return result, []
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / name for name in ("plan.json", "history.jsonl", "story.txt")]
    files[0].write_text(plan.to_json() + "\n", encoding="utf-8")
    write_history(result.history, files[1])
    lines = [
        f"{at:10.6f}  {name:<8} {event} {' '.join(f'{key}={value}' for key, value in fields.items())}".rstrip()
        for at, name, event, fields in seen[0].trace.story
    ]
    files[2].write_text("\n".join(lines) + "\n", encoding="utf-8")
    return result, files

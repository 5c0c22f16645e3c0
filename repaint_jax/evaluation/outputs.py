"""What an evaluation leaves: scores.jsonl, table.md, table.csv and report.html."""

from __future__ import annotations

from pathlib import Path

from repaint_jax.errors import ConfigError
from repaint_jax.evaluation.folder import Folder
from repaint_jax.evaluation.report import write_page
from repaint_jax.evaluation.scores import as_lines, score_folder
from repaint_jax.evaluation.tables import (
    as_csv,
    difference_table,
    differences,
    escaped,
    markdown,
    summarise,
    summary_table,
)
from repaint_jax.files import in_text, write_text
from repaint_jax.runtime.console import echo


def run_scoring(workdir: Path) -> None:
    """Scores what lies in `workdir`, whoever made it.

    Writes scores.jsonl, table.md, table.csv and report.html, and prints the table.

    Raises:
        ConfigError: there is nothing.
    """
    folder = Folder(workdir)
    rows, faults = score_folder(folder)
    if not rows:
        raise ConfigError(
            f"{workdir}: nothing to score; expected original/PICTURE.png, "
            "known_mask/MASK/PICTURE.png and inpainted/METHOD/MASK/PICTURE_SAMPLE.png"
            + "".join(f"; {fault}" for fault in faults[:1])
        )
    lines = summarise(rows)
    summary, compared = summary_table(lines), difference_table(differences(rows))
    notes = [in_text(note) for note in _notes(folder)]
    notes += [in_text(f"Not scored: {fault}") for fault in faults]
    title = f"Evaluation of {in_text(workdir.resolve().name)}"
    head = [f"# {title}", *notes]
    text = "".join(f"{escaped(line)}\n\n" for line in head) + markdown(summary)
    if compared[1]:
        text += "\nDifferences on the same pictures:\n\n" + markdown(compared)
    page = write_page(folder, rows, title=title, notes=notes, summary=summary, differences=compared)
    contents = {
        "scores.jsonl": as_lines(rows),
        "table.csv": as_csv(lines),
        "report.html": page,
        "table.md": text,
    }
    for name, content in contents.items():
        write_text(workdir / name, content)
    echo(f"{text}\n{workdir / 'report.html'}")


def _notes(folder: Folder) -> list[str]:
    """What a reader of the tables must know besides."""
    notes = []
    asked = folder.asked()
    if asked:
        notes.append(
            f"{len(folder.pictures())} pictures of {asked['data']}, {asked['num_samples']} "
            f"samples each; model {asked['settings']['model']['path']}, seed "
            f"{asked['settings']['seed']}."
        )
    if asked.get("skipped"):
        listed = "; ".join(asked["skipped"])
        notes.append(f"{len(asked['skipped'])} pictures were skipped: {listed}")
    return notes

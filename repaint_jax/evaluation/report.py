"""An evaluation as a page: the tables, and the pictures side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from repaint_jax.evaluation.folder import Folder
from repaint_jax.evaluation.scores import Row
from repaint_jax.evaluation.tables import Table
from repaint_jax.pictures.images import image_shape

_MOST_SAMPLES = 4  # of a method, side by side

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
  :root {{ color-scheme: light dark; --line: #8884; --side: 128px; }}
  body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem; }}
  h1, h2 {{ font-weight: 600; }}
  p {{ max-width: 50rem; }}
  .scroll {{ overflow-x: auto; }}
  table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
  td {{ white-space: nowrap; }}
  th, td {{ padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right; }}
  th {{ font-weight: 600; vertical-align: bottom; }}
  th:nth-child(-n+2), td:nth-child(-n+2) {{ text-align: left; }}
  nav {{ position: sticky; top: 0; padding: .6rem 0; background: Canvas; z-index: 1;
         border-bottom: 1px solid var(--line); }}
  nav label {{ margin-right: 1.2rem; }}
  .picture {{ display: flex; gap: 1rem; padding: .8rem 0; border-bottom: 1px solid var(--line);
              content-visibility: auto; contain-intrinsic-size: auto 170px; }}
  .wrapped {{ flex-wrap: wrap; }}
  figure {{ margin: 0; }}
  figure div {{ display: flex; gap: 3px; }}
  figcaption {{ font-size: 12px; opacity: .75; max-width: calc(4 * var(--side)); }}
  img {{ width: var(--side); image-rendering: {rendering}; display: block; }}
</style>
<h1>{title}</h1>
{notes}
<h2>Scores</h2>
<p>Means over pictures, with 95 % confidence intervals; the samples of a picture count as one.
   ↑: more is better, ↓: less is better.</p>
<div class="scroll">{summary}</div>
{differences}
<h2>Pictures</h2>
<nav>
  <label>mask <select id="mask">{masks}</select></label>
  <label>order <select id="order"><option value="">by name</option>{orders}</select></label>
  <label>size <input id="size" type="range" min="48" max="384" value="128"></label>
</nav>
<p>Below each result: {score}.</p>
{pictures}
<script>
  const $ = id => document.getElementById(id);
  const sections = [...document.querySelectorAll("section")];
  const names = new Map(sections.map(s => [s, [...s.children]]));
  function show() {{
    for (const section of sections) {{
      section.hidden = section.dataset.mask !== $("mask").value;
      const rows = [...names.get(section)];
      const [method, worst] = $("order").value.split("|");
      const score = row => parseFloat(row.dataset[method] ?? "NaN");
      if (method) rows.sort((a, b) => (score(a) - score(b)) * (worst === "low" ? 1 : -1));
      section.replaceChildren(...rows);
    }}
  }}
  $("mask").onchange = $("order").onchange = show;
  $("size").oninput = e => document.body.style.setProperty("--side", e.target.value + "px");
  show();
</script>
</html>
"""


def write_page(
    folder: Folder,
    rows: Sequence[Row],
    *,
    title: str,
    notes: Sequence[str],
    summary: Table,
    differences: Table,
) -> str:
    """The page, which refers to the folder's pictures."""
    masks = list(dict.fromkeys(row["mask"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    compared = ""
    if differences[1]:
        compared = (
            "<h2>Differences</h2><p>On the same pictures, so that their difficulty cancels.</p>"
            f'<div class="scroll">{_table(differences)}</div>'
        )
    key, name, worst = ("lpips", "LPIPS", "high")
    if all(row["lpips"] is None for row in rows):
        key, name, worst = ("psnr_hole", "PSNR in the hole, in dB", "low")
    orders = "".join(
        f'<option value="m{i}|{worst}">worst {name} of {escape(method)} first</option>'
        for i, method in enumerate(methods)
    )
    sections = "".join(
        f'<section data-mask="{escape(mask)}">{"".join(_rows(folder, rows, mask, methods, key))}'
        "</section>\n"
        for mask in masks
    )
    return _PAGE.format(
        title=escape(title),
        rendering="pixelated" if _is_small(folder) else "auto",
        notes="".join(f"<p>{escape(note)}</p>" for note in notes),
        summary=_table(summary),
        differences=compared,
        masks="".join(f"<option>{escape(mask)}</option>" for mask in masks),
        score=name,
        orders=orders,
        pictures=sections,
    )


def _rows(
    folder: Folder, rows: Sequence[Row], mask: str, methods: Sequence[str], key: str
) -> Iterator[str]:
    """A strip for each picture: original, masked, and each method's samples."""
    found: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        if row["mask"] == mask:
            found.setdefault(row["picture"], {}).setdefault(row["method"], []).append(row)
    for picture, by_method in found.items():
        parts = [_figure([folder.original(picture)], picture, folder)]
        masked = folder.masked(mask, picture)
        if not masked.is_file():
            masked = folder.known_mask(mask, picture)
        parts.append(_figure([masked], "masked", folder))
        data = ""
        for i, method in enumerate(methods):
            if method in by_method:
                shown = by_method[method][:_MOST_SAMPLES]
                caption = f"{method}<br>{', '.join(_score(row[key]) for row in shown)}"
                parts.append(_figure([folder.root / row["file"] for row in shown], caption, folder))
                first = shown[0][key]
                data += "" if first is None else f' data-m{i}="{first:.6g}"'
        yield f'<div class="picture wrapped"{data}>{"".join(parts)}</div>\n'


def _figure(files: Sequence[Path], caption: str, folder: Folder) -> str:
    pictures = "".join(
        f'<a href="{url}"><img src="{url}" loading="lazy" alt=""></a>'
        for url in (quote(str(file.relative_to(folder.root))) for file in files)
    )
    return f"<figure><div>{pictures}</div><figcaption>{caption}</figcaption></figure>"


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _table(table: Table) -> str:
    head, body = table
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>\n" for line in body
    )
    return f"<table><thead><tr>{names}</tr></thead>\n<tbody>{lines}</tbody></table>"


def _is_small(folder: Folder) -> bool:
    """Whether enlarged pictures should show their pixels."""
    return max(image_shape(folder.original(folder.pictures()[0]))) <= 64

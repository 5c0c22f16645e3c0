// The page: opens photographs, and lets brush, server and results know of each other.

import { json, post } from "./api.js";
import { $, hush, say, sentence, tell } from "./dom.js";
import { Filling, Settings } from "./filling.js";
import { keep, kept } from "./keeping.js";
import { Layer } from "./layers.js";
import * as masks from "./masks.js";
import { Painting } from "./painting.js";
import { Results, layerFacts, packed, unpacked } from "./results.js";
import { Stage } from "./stage.js";
import { Strokes } from "./strokes.js";

const STATES = { loading: "Loading the model …", "warming up": "Warming the model up …" };

const strokes = new Strokes();
export const stage = new Stage(strokes);
export const painting = new Painting(stage, strokes);
const settings = new Settings();
const filling = new Filling(stage);
const results = new Results(stage);
let opening = false;

/* ---- photographs ---- */

async function open(request, words) {
  if (opening || filling.running) return;
  opening = true;
  document.body.classList.add("opening");
  say(words);
  try {
    const { notes, ...photo } = await request();
    await paintOn(new Layer(photo));
    results.close();
    if (notes.length) tell(notes.map(sentence).join(" "), { stays: false });
    else hush();
  } catch (error) {
    tell(sentence(error.message));
  } finally {
    opening = false;
    document.body.classList.remove("opening");
  }
}

const openFile = (file) => open(() => post("/api/photos", file), "Opening the photograph");
const openPortrait = () => open(() => post("/api/portrait"), "Opening the portrait");

/** Another photograph is painted on, with strokes of earlier if these are given. */
async function paintOn(layer, list = []) {
  await layer.load();
  stage.show(layer);
  strokes.replace(list);
  const across = `${layer.width} by ${layer.height} pixels`;
  $("viewport").setAttribute("aria-label", `Photograph, ${across}`);
  for (const id of ["tools", "zoom"]) $(id).hidden = false;
  if ($("welcome").contains(document.activeElement)) $("viewport").focus();
  $("welcome").hidden = true;
  painting.resize(Math.max(layer.width, layer.height) / 16);
  stage.fit();
  say(`The photograph is open, ${across}`);
}

/* ---- filling ---- */

function updateFill() {
  const { photo } = stage;
  $("undo").disabled = !strokes.canUndo;
  $("redo").disabled = !strokes.canRedo;
  $("fill").disabled = !settings.ready || !photo || strokes.empty || filling.running;
  $("fill").textContent = !photo
    ? "Open a photograph first"
    : strokes.empty
      ? "Paint the hole first"
      : settings.ready
        ? "Fill the hole"
        : "The model is being loaded";
}

/** What would put another photograph below the hole rests while it is filled. */
function rest(inert) {
  for (const id of ["settings", "results", "history"]) $(id).inert = inert;
}

async function fill() {
  if ($("fill").disabled || !$("settings").reportValidity()) return;
  hush();
  results.hide();
  const { photo } = stage;
  const list = [...strokes.list];
  const chosen = settings.chosen;
  const work = filling.fill({ ...chosen, photo: photo.id, strokes: list });
  updateFill();
  rest(true);
  const done = await work;
  rest(false);
  updateFill();
  if (!done) return;
  const size = { width: photo.width, height: photo.height };
  await results.add({
    photo,
    layers: done.photos.map((id) => new Layer({ id, ...size })),
    box: done.box,
    strokes: list,
    words: `${$("method").selectedOptions[0].text}, ${chosen.quality}, seed ${chosen.seed}: ${Math.round(done.seconds)} s`,
  });
  followStatus();
}

async function followStatus() {
  const dot = $("model");
  try {
    const status = await json("/api/status");
    dot.dataset.state = status.state;
    if (status.model) {
      const [height, width] = status.model.shape;
      $("model-text").textContent = STATES[status.state] ?? `Ready, ${width} x ${height} pixels`;
      settings.offer(status);
    } else $("model-text").textContent = STATES[status.state] ?? status.state;
    if (status.state !== "ready") setTimeout(followStatus, 700);
  } catch (error) {
    dot.dataset.state = "gone";
    $("model-text").textContent = sentence(error.message);
    setTimeout(followStatus, 3000);
  }
}

/* ---- what is kept ---- */

let keeping = 0;

function keepSoon() {
  clearTimeout(keeping);
  keeping = setTimeout(() => {
    if (!stage.photo) return;
    const sets = results.sets.slice(0, 12).map(packed);
    keep({ photo: layerFacts(stage.photo), strokes: strokes.list, sets });
  }, 100);
}

async function restore() {
  const { photo, strokes: list = [], sets = [] } = kept();
  if (!photo) return;
  try {
    const uploaded = list.filter(({ kind }) => kind === "mask");
    await Promise.all(uploaded.map(({ id }) => masks.fetched(id, strokes)));
    await paintOn(new Layer(photo), list);
    results.sets = sets.map(unpacked);
    const [last] = results.sets;
    if (last?.photo.id !== photo.id) return;
    await results.show(last, 0);
    if (JSON.stringify(list) !== JSON.stringify(last.strokes)) results.hide();
  } catch (error) {
    const why = error.status === 404 ? "the server has forgotten the photograph" : error.message;
    tell(`${sentence(why)} Open it again.`);
  }
}

/* ---- the page's own controls ---- */

function wireTools() {
  const tools = [...document.querySelectorAll("[data-tool][role=radio]")];
  painting.ontool = () => {
    for (const button of tools) {
      const on = button.dataset.tool === painting.tool;
      button.setAttribute("aria-checked", String(on));
      button.tabIndex = on ? 0 : -1;
    }
  };
  for (const button of tools) {
    button.addEventListener("click", () => painting.choose(button.dataset.tool));
    button.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const next = tools[(tools.indexOf(button) + step + tools.length) % tools.length];
      painting.choose(next.dataset.tool);
      next.focus();
    });
  }
  painting.choose("brush");
  $("size").addEventListener("input", () => painting.resize(painting.largest ** $("size").value));
  painting.onsize = () => {
    $("size").value = Math.log(painting.size) / Math.log(painting.largest);
    $("size-text").textContent = `${Math.round(painting.size)} px`;
  };
  painting.onpaint = () => results.hide();
  painting.allowed = () => !filling.running;
  for (const [id, change] of Object.entries({
    undo: () => strokes.undo(),
    redo: () => strokes.redo(),
    invert: () => strokes.add({ kind: "invert" }),
    clear: () => strokes.add({ kind: "clear" }),
  })) {
    $(id).addEventListener("click", () => {
      if (filling.running) return;
      results.hide();
      change();
    });
  }
  $("zoom-in").addEventListener("click", () => stage.zoom(1.4));
  $("zoom-out").addEventListener("click", () => stage.zoom(1 / 1.4));
  $("zoom-fit").addEventListener("click", () => stage.fit());
  stage.onview = () => {
    $("zoom-text").textContent = `${Math.round(stage.view.scale * 100)} %`;
    painting.drawCursor();
  };
}

function wireFiles() {
  const choose = () => $("file").click();
  $("open").addEventListener("click", choose);
  $("welcome-open").addEventListener("click", choose);
  $("portrait").addEventListener("click", openPortrait);
  $("welcome-portrait").addEventListener("click", openPortrait);
  $("file").addEventListener("change", () => {
    const [file] = $("file").files;
    $("file").value = "";
    if (file) openFile(file);
  });
  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData?.files ?? [];
    if (file) openFile(file);
  });
  const dropping = (shown) => () => {
    $("dropping").hidden = !shown;
  };
  document.addEventListener("dragenter", dropping(true));
  $("dropping").addEventListener("dragleave", dropping(false));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    dropping(false)();
    const [file] = event.dataTransfer.files;
    if (file) openFile(file);
  });
}

const KEYS = {
  b: () => painting.choose("brush"),
  e: () => painting.choose("eraser"),
  r: () => painting.choose("rectangle"),
  h: () => painting.choose("hand"),
  i: () => strokes.add({ kind: "invert" }),
  "[": () => painting.resize(painting.size / 1.2),
  "]": () => painting.resize(painting.size * 1.2),
  "+": () => stage.zoom(1.4),
  "=": () => stage.zoom(1.4),
  "-": () => stage.zoom(1 / 1.4),
  0: () => stage.fit(),
};

function wireKeys() {
  document.addEventListener("keydown", (event) => {
    const control = event.ctrlKey || event.metaKey;
    const key = event.key.toLowerCase();
    if (key === "escape") {
      if (filling.running) filling.cancel();
      else hush();
    }
    if (control && key === "enter") {
      fill();
      return;
    }
    const typing = event.target.closest("input:not([type=range]):not([type=radio]), select");
    if (!stage.photo || filling.running || typing) return;
    if (control && (key === "z" || key === "y")) {
      event.preventDefault();
      results.hide();
      if (key === "y" || event.shiftKey) strokes.redo();
      else strokes.undo();
    } else if (!control && !event.altKey) {
      if (key === "c") results.compare(true);
      else KEYS[event.key] && KEYS[event.key]();
    }
  });
  document.addEventListener("keyup", (event) => {
    if (event.key.toLowerCase() === "c") results.compare(false);
  });
}

strokes.onchange = () => {
  stage.draw();
  updateFill();
  keepSoon();
};
settings.onchange = updateFill;
results.onchange = keepSoon;
results.onuse = (layer) => {
  results.close();
  paintOn(layer);
};
results.onshow = (set) => {
  if (stage.photo.id === set.photo.id) return true;
  if (unfilled() && !confirm("What is painted on this photograph is not filled yet. Leave it?")) {
    return false;
  }
  stage.photo = set.photo;
  strokes.replace(set.strokes);
  stage.fit();
  return true;
};

/** Whether a hole is painted that no result of this photograph has. */
function unfilled() {
  const painted = JSON.stringify(strokes.list);
  const filled = results.sets.filter(({ photo }) => photo.id === stage.photo.id);
  return !strokes.empty && !filled.some((set) => JSON.stringify(set.strokes) === painted);
}
$("settings").addEventListener("submit", (event) => {
  event.preventDefault();
  fill();
});
$("toast-close").addEventListener("click", hush);
wireTools();
wireFiles();
wireKeys();
masks.wire(stage, strokes);
updateFill();
followStatus();
restore();

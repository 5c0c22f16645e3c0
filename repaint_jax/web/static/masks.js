// Masks as files: white is kept, black is filled.

import { blob, post } from "./api.js";
import { $, save, sentence, tell } from "./dom.js";

const LARGEST = 2048; // pixels across, of a mask as it is seen

/** Puts an uploaded mask in the place of what is painted. */
export async function upload(file, stage, strokes) {
  try {
    const { id } = await post(`/api/photos/${stage.photo.id}/masks`, file);
    await fetched(id, strokes);
    strokes.add({ kind: "mask", id });
  } catch (error) {
    tell(sentence(error.message));
  }
}

/** Fetches what an uploaded mask looks like. */
export async function fetched(id, strokes) {
  if (!strokes.masks.has(id)) {
    const view = await blob(`/api/masks/${id}/view?to=${LARGEST}`);
    strokes.masks.set(id, await createImageBitmap(view));
  }
}

/** Saves the mask at the photograph's size. */
export async function download(stage, strokes) {
  try {
    const body = { strokes: strokes.list };
    const options = { method: "POST", body };
    save(await blob(`/api/photos/${stage.photo.id}/mask`, options), "mask.png");
  } catch (error) {
    tell(sentence(error.message));
  }
}

/** The buttons of the mask's menu. */
export function wire(stage, strokes) {
  const panel = $("mask-panel");
  const menu = $("mask-menu");
  const open = (shown) => {
    panel.hidden = !shown;
    menu.setAttribute("aria-expanded", String(shown));
  };
  menu.addEventListener("click", () => open(panel.hidden));
  panel.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    open(false);
    menu.focus();
  });
  document.addEventListener("pointerdown", ({ target }) => {
    if (!panel.contains(target) && !menu.contains(target)) open(false);
  });
  $("mask-colour").addEventListener("input", () => {
    stage.colour = $("mask-colour").value;
    stage.drawMask();
  });
  const see = () => {
    $("mask").style.opacity = $("mask-opacity").value;
  };
  $("mask-opacity").addEventListener("input", see);
  see();
  $("mask-upload").addEventListener("click", () => $("mask-file").click());
  $("mask-file").addEventListener("change", async () => {
    const [file] = $("mask-file").files;
    $("mask-file").value = "";
    if (file) await upload(file, stage, strokes);
    open(false);
  });
  $("mask-download").addEventListener("click", () => download(stage, strokes));
}

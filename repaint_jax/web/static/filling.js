// What to fill with, and a hole that is being filled.

import { Refused, bitmapOf, events, request } from "./api.js";
import { $, chosen, duration, say, segments, sentence, tell } from "./dom.js";

const WORDS = { draft: "Draft", good: "Good", fine: "Fine", configured: "As configured" };

/** What the server offers, and what is chosen of it. */
export class Settings {
  #offer = null; // the server's status
  onchange = () => {};

  constructor() {
    $("settings").addEventListener("change", () => this.#changed());
    $("dice").addEventListener("click", () => {
      $("seed").value = crypto.getRandomValues(new Uint32Array(1))[0];
    });
  }

  get ready() {
    return this.#offer !== null;
  }

  /** Shows what there is to choose, and how long it takes. */
  offer(status) {
    const first = !this.#offer;
    this.#offer = status;
    if (first) {
      const { choices, default: usual } = status.num_samples;
      segments($("samples"), "samples", choices.map((count) => [count, count]), usual);
      const names = Object.entries(status.methods);
      $("method").replaceChildren(...names.map(([name, { label }]) => new Option(label, name)));
      $("method").value = status.default[0];
    }
    this.#changed();
  }

  /** A job of the server's, without photograph and strokes. */
  get chosen() {
    const whole = $("context").value === "whole";
    return {
      method: $("method").value,
      quality: chosen($("qualities")),
      samples: Number(chosen($("samples"))),
      seed: Number($("seed").value),
      window: whole ? "whole" : "hole",
      margin: whole ? 0.5 : Number($("context").value),
    };
  }

  #changed() {
    if (!this.#offer) return;
    const method = this.#offer.methods[$("method").value];
    const samples = chosen($("samples"));
    const before = chosen($("qualities")) ?? this.#offer.default[1];
    const each = method.seconds[samples];
    const items = Object.entries(method.qualities).map(([name, calls]) => {
      const time = each === null ? "" : ` · about ${duration(each * calls)}`;
      return [name, WORDS[name] ?? name, `${Math.round(calls)} calls${time}`];
    });
    const has = items.some(([name]) => name === before) ? before : items[0][0];
    const focused = $("qualities").contains(document.activeElement);
    segments($("qualities"), "quality", items, has);
    if (focused) $("qualities").querySelector("input:checked").focus();
    $("method-about").textContent = method.about;
    this.onchange();
  }
}

/** One hole at a time. */
export class Filling {
  #abort = null;
  #id = null;
  #stage;
  onprogress = () => {};

  constructor(stage) {
    this.#stage = stage;
    $("cancel").addEventListener("click", () => this.cancel());
  }

  get running() {
    return this.#abort !== null;
  }

  cancel() {
    if (this.#id) request(`/api/jobs/${this.#id}`, { method: "DELETE" }).catch(() => {});
    else this.#abort?.abort();
  }

  /** Fills, and returns what the server says at the end; null if it was cancelled or failed. */
  async fill(order) {
    this.#abort = new AbortController();
    this.#show("Sending the hole", 0);
    try {
      const { signal } = this.#abort;
      const response = await request("/api/jobs", { method: "POST", body: order, signal });
      for await (const [kind, data] of events(response)) {
        const end = await this.#event(kind, data);
        if (end !== undefined) return end;
      }
      throw new Refused(0, "the server went away before the hole was filled");
    } catch (error) {
      if (error.name !== "AbortError") tell(sentence(error.message));
      return null;
    } finally {
      this.#abort = this.#id = null;
      $("progress").hidden = true;
      this.#stage.previews.clear();
      this.#stage.draw();
    }
  }

  /** The end of the job, if this is it. */
  async #event(kind, data) {
    if (kind === "job") this.#id = data.id;
    else if (kind === "waiting") this.#show(this.#waiting(data));
    else if (kind === "preparing") this.#show("Preparing");
    else if (kind === "progress") await this.#progress(data);
    else if (kind === "done") return data;
    else if (kind === "cancelled") {
      say("Cancelled");
      return null;
    } else if (kind === "failed") throw new Refused(0, data.message);
    return undefined;
  }

  #waiting({ place, state }) {
    if (place > 0) return `Waiting: ${place} before this one`;
    return state === "ready" ? "Waiting" : "Waiting for the model";
  }

  async #progress({ calls, total, seconds_left: left, window: box, enlarged, previews }) {
    const soft = enlarged > 2 ? `, enlarged ${enlarged.toFixed(1)} times` : "";
    this.#show(`Filling${soft}`, calls / total, left === null ? "" : `${duration(left)} left`);
    if (previews.length === 0) return;
    const bitmaps = await Promise.all(previews.map(bitmapOf));
    this.#stage.previews.set(`${box.left},${box.top}`, { box, bitmaps });
    this.#stage.draw();
    this.onprogress();
  }

  #show(text, share = null, left = "") {
    $("progress").hidden = false;
    $("progress-text").textContent = text;
    $("progress-left").textContent = left;
    if (share !== null) $("progress-bar").value = share;
  }
}


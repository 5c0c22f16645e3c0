// The page's elements, and what it says.

export const $ = (id) => document.getElementById(id);

let timer = 0;

/** Shows a message until it is closed, or for a while. */
export function tell(message, { stays = true } = {}) {
  $("toast-text").textContent = message;
  $("toast").hidden = false;
  clearTimeout(timer);
  if (!stays) timer = setTimeout(hush, 6000);
}

export function hush() {
  $("toast").hidden = true;
}

/** Says something to a screen reader alone. */
export function say(message) {
  $("said").textContent = message;
}

/** A sentence's first letter in upper case. */
export function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

/** Seconds as people say them. */
export function duration(seconds) {
  if (seconds < 1) return "1 s";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

/** A row of radio buttons; `items` are [value, label, hint]. */
export function segments(parent, name, items, chosen) {
  parent.replaceChildren(
    ...items.map(([value, label, hint]) => {
      const wrap = document.createElement("label");
      const input = document.createElement("input");
      Object.assign(input, { type: "radio", name, value, checked: String(value) === String(chosen) });
      const text = document.createElement("span");
      text.textContent = label;
      wrap.append(input, text);
      if (hint) {
        const small = document.createElement("small");
        small.textContent = hint;
        text.append(small);
      }
      return wrap;
    }),
  );
}

/** The value that is chosen among radio buttons. */
export function chosen(parent) {
  return parent.querySelector("input:checked")?.value;
}

/** Hands a file to the person. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

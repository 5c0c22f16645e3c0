// What survives a reload of the tab: the photograph, the strokes and the session's results.

const KEY = "repaint.session";

/** What was kept; an empty object if there is nothing, or nothing that can be read. */
export function kept() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY)) ?? {};
  } catch {
    return {};
  }
}

/** Keeps it; without what takes most room, if there is not enough. */
export function keep(session) {
  for (const each of [session, { ...session, sets: [] }]) {
    try {
      sessionStorage.setItem(KEY, JSON.stringify(each));
      return;
    } catch {
      // the browser gives a few megabytes
    }
  }
}

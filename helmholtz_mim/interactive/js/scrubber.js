// The past of a run, kept small, and a slider that goes back to any of its moments.
import { button, make, slider } from "./kit.js";

/** A list of non-negative numbers with a byte each, on the scale of the greatest; and back. */
export function squeezed(p) {
  const most = p.reduce((a, b) => Math.max(a, b), 1e-12);
  return { most, levels: Uint8Array.from(p, (x) => Math.round((255 * x) / most)) };
}
export const stretched = ({ most, levels }) => Float64Array.from(levels, (level) => (level * most) / 255);

/** The point of a history that is nearest to so many steps, by its index. */
export function nearest(history, steps) {
  let best = 0;
  for (let i = 1; i < history.length; i++) if (Math.abs(history[i].steps - steps) < Math.abs(history[best].steps - steps)) best = i;
  return best;
}

/** A slider over a run, its end the present; `take(point or null)` hears where it is put, `words(point)` says what a moment is. */
export function scrubber(words, take) {
  const PARTS = 200;
  let run = [];
  const pick = (v) => (v < PARTS && run.length > 1 ? run[nearest(run, (v / PARTS) * run.at(-1).steps)] : null);
  const track = slider("moment:", { max: PARTS, step: 1, value: PARTS, show: (v) => (pick(v) ? words(pick(v)) : "now") }, (v) => hold(pick(v)));
  const now = button("Now", () => back(), { disabled: true });
  const hold = (point) => {
    now.disabled = !point;
    take(point);
  };
  const update = (history) => {
    run = history;
    track.refresh();
  };
  const back = () => {
    track.input.value = PARTS;
    hold(null);
    track.refresh();
  };
  track.classList.add("scrubber");
  return { node: make("div", { class: "together moment" }, track, now), update, back };
}

// A story in short steps: sentences that are controls, and one button that goes on. On a phone one sentence at a time.
import { button, make } from "./kit.js";

/** `steps`: { name, text }; `href(k)`: the address of a step; `lead(k)`: go there. `show(k)` marks the step that is now; -1: none of them. */
export function story(steps, href, lead) {
  let told = 0;
  const follow = (k) => (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    lead(k);
  };
  const links = steps.map(({ name, text }, k) => make("a", { onclick: follow(k) }, make("strong", {}, `${k + 1} ${name}. `), text));
  const cards = links.map((link) => make("li", {}, link));
  const back = button("Back", () => lead(told - 1)), on = button("", () => lead((told + 1) % steps.length), { class: "primary" });
  const place = make("span", { class: "story-place" });
  const show = (k) => {
    if (k >= 0) told = k;
    cards.forEach((card, i) => card.classList.toggle("told", i === told));
    links.forEach((link, i) => (link.href = href(i) || "#"));
    links.forEach((link, i) => (i === k ? link.setAttribute("aria-current", "step") : link.removeAttribute("aria-current")));
    back.disabled = told === 0;
    on.textContent = told + 1 < steps.length ? `Next: ${steps[told + 1].name}` : "From the beginning";
    place.textContent = k < 0 ? "your own way" : `step ${k + 1} of ${steps.length}`;
  };
  const node = make("nav", { class: "story", "aria-label": `the story in ${steps.length} steps` }, make("ol", {}, ...cards), make("div", { class: "together" }, back, on, place));
  show(0);
  return { node, show };
}

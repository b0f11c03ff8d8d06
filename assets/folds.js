// One switch on every page opens and folds all of its code; the choice is kept for the next page, where the browser lets us.
const folds = document.querySelectorAll("details.fold");
const remembered = () => { try { return localStorage.getItem("code") === "shown"; } catch { return false; } };
const remember = (shown) => { try { localStorage.setItem("code", shown ? "shown" : "folded"); } catch { /* this page only */ } };
const allOpen = () => [...folds].every((fold) => fold.open);
const setAll = (open) => folds.forEach((fold) => { fold.open = open; });

function addSwitch() {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "code-switch";
  const label = () => { button.textContent = allOpen() ? "Fold the code" : "Show all code"; };
  button.addEventListener("click", () => { const shown = !allOpen(); setAll(shown); remember(shown); });
  folds.forEach((fold) => fold.addEventListener("toggle", label));
  setAll(remembered());
  label();
  document.querySelector(".article-header-buttons")?.prepend(button);
}

if (folds.length) addSwitch();

// What is wider than its box scrolls, by keyboard too.
const boxes = [...document.querySelectorAll(".formula, span.math.long, div.cell_output, .pst-scrollable-table-container, .bd-article pre")];
const reach = (box) => { if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0; else box.removeAttribute("tabindex"); };
const watch = new ResizeObserver((changes) => changes.forEach(({ target }) => reach(target)));
boxes.forEach((box) => watch.observe(box));
document.fonts.ready.then(() => boxes.forEach(reach)); // the letters of formulas have their widths

// Escape closes the card of a term, until the term is left.
addEventListener("keydown", ({ key }) => {
  if (key !== "Escape") return;
  for (const term of document.querySelectorAll(".term:is(:hover, :focus-within)")) {
    term.classList.add("closed");
    for (const end of ["pointerleave", "focusout"]) term.addEventListener(end, () => term.classList.remove("closed"), { once: true });
  }
});

// Paper shows everything, and is white; afterwards the page is as it was.
const root = document.documentElement;
let opened = [], theme;
window.addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll(".bd-article details:not([open])")];
  opened.forEach((details) => { details.open = true; });
  theme = root.dataset.theme;
  root.dataset.theme = "light";
});
window.addEventListener("afterprint", () => {
  opened.forEach((details) => { details.open = false; });
  root.dataset.theme = theme;
});

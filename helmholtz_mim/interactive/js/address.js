// A figure's state in the address of its page: #name.trait=value&…, beside those of other figures.

const plain = (text) => (text === "true" || text === "false" ? text === "true" : text !== "" && Number.isFinite(+text) ? +text : text);

/** { read, write, to } for the first figure of that name on a page without a kernel; `take` hears of what readers write there themselves. */
export function addressed(el, name, take) {
  const place = el.closest("[data-figure]"), mine = place && place === document.querySelector(`[data-figure^="${name}-"]`);
  const entries = () => [...new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "")];
  const own = ([key]) => key.startsWith(`${name}.`);
  const read = () => (mine ? Object.fromEntries(entries().filter(own).map(([key, text]) => [key.slice(name.length + 1), plain(text)])) : {});
  const to = (values) => {
    const said = Object.entries(values).map(([key, value]) => [`${name}.${key}`, value]);
    const all = [...entries().filter((entry) => !own(entry)), ...said];
    return all.length ? `#${new URLSearchParams(all)}` : "";
  };
  let timer;
  // a browser takes only so many changes of the address in a while
  const write = (values) => {
    clearTimeout(timer);
    const before = location.hash;
    // unless readers have gone somewhere else meanwhile
    const there = () => {
      if (location.hash === before && to(values) !== to(read())) history.replaceState(null, "", to(values) || location.pathname + location.search);
    };
    if (mine) timer = setTimeout(there, 300);
  };
  if (mine) addEventListener("hashchange", () => take(read()));
  return { read, write, to };
}

// The entropy of a coin: the smallest complete figure, and a pattern for others.
import { ground, make, slider, bars } from "./kit.js";

function render({ model, el }) {
  ground(el, model);
  const plot = bars({ label: "probability of tails and of heads", height: 90, down: null }), words = make("output", { "aria-live": "polite" });
  const toss = (p) => {
    const h = p > 0 && p < 1 ? -p * Math.log(p) - (1 - p) * Math.log(1 - p) : 0;
    plot.update([1 - p, p], [], 1);
    words.textContent = `entropy ${h.toFixed(3)} nats`;
    model.set("p", p);
    model.save_changes();
  };
  const control = slider("probability of heads", { value: model.get("p"), show: (p) => p.toFixed(2) }, toss);
  el.append(make("div", { class: "controls" }, control, words), plot.node);
  toss(model.get("p"));
}

export default { render };

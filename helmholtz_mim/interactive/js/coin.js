// The entropy of a coin: the smallest complete figure, and a pattern for others.
import { bars, ground, make, share, slider, within } from "./kit.js";

const traits = {
  "moves": { "p": "probability of heads" },
  "computes": { "entropy": "of the coin, nats" }
};

function render({ model, el }) {
  let p = model.get("p");
  ground(el, model);
  const plot = bars({ label: "probability of tails and of heads", height: 90, down: null }), words = make("output", { "aria-live": "polite" });
  const toss = (value) => {
    p = control.input.value = value;
    control.refresh();
    const entropy = p > 0 && p < 1 ? -p * Math.log(p) - (1 - p) * Math.log(1 - p) : 0;
    plot.update([1 - p, p], [], 1);
    words.textContent = `entropy ${entropy.toFixed(3)} nats`;
    publish({ p, entropy });
  };
  const control = slider("probability of heads", { show: (x) => x.toFixed(2) }, toss);
  el.append(make("div", { class: "controls" }, control, words), plot.node);
  const publish = share(el, model, traits, { p: [within(0, 1), () => p, toss] });
  toss(p);
}

export default { render };

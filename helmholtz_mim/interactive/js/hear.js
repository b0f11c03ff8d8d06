// Bars to be heard: those of tunes beside those that machines dream, each bar at the pitch of its state in the top layer.
import { among, announcer, button, ground, make, share } from "./kit.js";
import { onsets, perform, score } from "./sound.js";

const STYLE = `
.hear-group { align-items: center; display: grid; gap: .1rem .8rem; grid-template-columns: 5rem minmax(0, 1fr); margin: 0 0 .6rem; }
.hear-group .name, .hear-group .bars { grid-column: 2; } .hear-group button { grid-row: 1 / span 2; }`;

const traits = {
  "moves": { "playing": "the name of the bars that sound, or none" },
  "computes": { "onsets": "of the bars of each name, in places from the first" }
};

function render({ model, el }) {
  const groups = model.get("groups"), names = groups.map(({ name }) => name), scores = groups.map(score);
  let playing = "", stop = null;
  ground(el, model);
  const say = announcer(el);
  const publish = share(el, model, traits, { playing: [among(["", ...names]), () => playing, (name) => play(name)] });

  function play(name) {
    stop?.();
    const k = names.indexOf(name);
    if (k < 0) return;
    playing = name;
    named(k, "Stop");
    say(scores[k].words);
    publish({ playing });
    stop = perform([scores[k]], () => {
      [playing, stop] = ["", null];
      named(k, "Listen");
      publish({ playing });
    });
  }
  const named = (k, word) => {
    players[k].textContent = word;
    players[k].setAttribute("aria-label", `${word}: ${names[k]}`);
  };
  const players = names.map((name) => button("", () => play(playing === name ? "" : name)));
  names.forEach((_, k) => named(k, "Listen"));
  const rows = scores.map(({ words, row }, k) => make("div", { class: "hear-group" }, players[k], make("span", { class: "name" }, words), row));
  el.append(make("style", {}, STYLE), ...rows);
  publish({ onsets: Object.fromEntries(groups.map(({ name, bars }) => [name, onsets(bars.map(({ bits }) => bits), 1)])) });
  return () => stop?.();
}

export default { render };

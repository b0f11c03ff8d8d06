// Bars to be heard: when their onsets sound, and a button that plays them as clicks. Nothing sounds before it is pressed.
import { button, make } from "./kit.js";

/** Seconds from the beginning at which each bar's onsets sound; the bars, lists of 0 and 1, follow one another, so many places a second. */
export function onsets(bars, pace) {
  let before = 0;
  return bars.map((bar) => {
    const start = before;
    before += bar.length;
    return [...bar].flatMap((on, place) => (on ? [(start + place) / pace] : []));
  });
}

/** The pitch of a state, in hertz: five notes to the octave, from the A below middle C. */
export const pitch = (state) => 220 * 2 ** ([0, 2, 4, 7, 9, 12, 14, 16, 19, 21][state % 10] / 12);

/** Schedule clicks { time, hertz } on the clock of the audio device; gives what silences them. */
export function sound(clicks) {
  const audio = new AudioContext(), begin = audio.currentTime + 0.1;
  for (const { time, hertz } of clicks) {
    const tone = audio.createOscillator(), loudness = audio.createGain(), at = begin + time;
    tone.type = "triangle";
    tone.frequency.value = hertz;
    loudness.gain.setValueAtTime(0.25, at);
    loudness.gain.exponentialRampToValueAtTime(0.001, at + 0.12);
    tone.connect(loudness).connect(audio.destination);
    tone.start(at);
    tone.stop(at + 0.13);
  }
  return () => audio.close();
}

const dots = (bits) => [...bits].map((on) => (on ? "●" : "·")).join("");

/** What is heard of a group { name, bars: [{ bits, state }] }: its name, on how many notes (a bar without a state has no note of its own), and a row of dots for each bar. */
export function score({ name, bars }) {
  const spans = bars.map(({ bits }) => make("span", { class: "bar" }, dots(bits))), many = new Set(bars.map(({ state }) => state)).size;
  const words = bars.every(({ state }) => state === null) ? name : `${name}: ${many} ${many > 1 ? "notes" : "note"}`;
  return { bars, spans, words, row: make("div", { class: "bars" }, ...spans) };
}

/** Play scores one after another, each bar at the pitch of its state, and mark what sounds; gives what stops it. */
export function perform(scores, ended) {
  const PACE = 8, bars = scores.flatMap((one) => one.bars), spans = scores.flatMap((one) => one.spans), times = onsets(bars.map(({ bits }) => bits), PACE);
  const silence = sound(times.flatMap((bar, b) => bar.map((time) => ({ time, hertz: pitch(bars[b].state) }))));
  const mark = (now) => spans.forEach((span, i) => span.classList.toggle("sounding", i === now));
  let places = 0;
  const timers = bars.map(({ bits }, b) => {
    const from = places / PACE;
    places += bits.length;
    return setTimeout(() => mark(b), 1000 * from + 100);
  });
  const stop = () => {
    silence();
    timers.forEach(clearTimeout);
    mark(-1);
    ended();
  };
  timers.push(setTimeout(stop, (1000 * places) / PACE + 300));
  return stop;
}

/** A button that plays, and shows, the groups that `ask()` gives. */
export function listener(ask, say) {
  const shown = make("div", { class: "heard" });
  let stop = null;
  const ended = () => {
    stop = null;
    player.textContent = "Listen";
  };
  const play = () => {
    const scores = ask().filter(({ bars }) => bars.length).map(score);
    shown.replaceChildren(...scores.map(({ words, row }) => make("p", {}, make("span", { class: "name" }, words), row)));
    say(scores.map(({ words }) => words).join("; "));
    player.textContent = "Stop";
    stop = perform(scores, ended);
  };
  const player = button("Listen", () => (stop ? stop() : play()));
  return { button: player, shown, stop: () => stop?.() };
}

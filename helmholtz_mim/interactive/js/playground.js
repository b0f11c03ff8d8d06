// A playground: a rule that the reader writes in Python decides for the machine of the collapse lab, and is judged.
import { announcer, button, ground, lines, make, select, share, worker } from "./kit.js";
import { FactorialMIM, Machine, Stream, Training, addProducts, conditionalEntropy, divergence, entropy, exactReport, listen, logits, patterns, push, sigmoid, table, teach, toss, upperHalf } from "./core.js";
import { addressed } from "./address.js";

const STYLE = `
.playground { --categorical: hsl(38 100% 27%); --yours: var(--lively-ink); display: grid; gap: .8rem 2rem; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); }
html[data-theme="dark"] .playground, [data-jp-theme-light="false"] .playground { --categorical: hsl(40 90% 62%); }
.playground :is(textarea, pre) { background: var(--lively-faint); border: 1px solid var(--lively-rule); border-radius: 4px; color: inherit; font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; margin: 0; max-width: 100%; overflow: auto; padding: .5rem .6rem; width: 100%; }
.playground textarea { display: block; min-height: 14rem; resize: vertical; tab-size: 4; white-space: pre; }
.playground textarea:focus-visible, .playground summary:focus-visible { outline: 2px solid var(--lively-recognition); outline-offset: 2px; }
.playground .written { grid-column: 1 / -1; } .playground .written > label { display: block; }
.playground .plot { margin-top: 18px; } .playground .plot span:nth-of-type(3) { top: -14px !important; }
 .playground .hint { font-size: 12px; margin: .3rem 0 .7rem; opacity: .85; } .playground .controls { margin: 0 0 .6rem; }
.playground .going { font-variant-numeric: tabular-nums; margin: 0 0 .5rem; min-height: 1.4em; }
.playground .wrong { border-left: 3px solid var(--lively-generative); margin: 0 0 .6rem; padding-left: .6rem; } .playground :is(.wrong, .said):empty { display: none; }
.playground .wrong p { margin: 0 0 .3rem; } .playground summary { cursor: pointer; min-height: 1.7rem; }
.playground .said { max-height: 8rem; margin: 0 0 .6rem; }
.playground table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; margin: .6rem 0 0; width: 100%; }
.playground caption { caption-side: top; color: inherit; font-weight: 600; font-size: 12px; padding: 0 0 .2rem; text-align: left; }
.playground :is(th, td) { border-top: 1px solid var(--lively-rule); font-weight: 400; padding: .2rem .3rem; text-align: right; vertical-align: top; }
.playground td { white-space: nowrap; } .playground :is(th, td):first-child { padding-left: 0; text-align: left; } .playground tr.yours :is(th, td) { font-weight: 600; }
@media (max-width: 760px) { .playground { grid-template-columns: minmax(0, 1fr); } }`;

const traits = {
  "moves": { "program": "the text in the editor" },
  "computes": {
    "steps": "of the run so far", "history": "steps, and information, entropy and divergence at each, nats",
    "verdict": "once a run is over: layers that have collapsed, and the program beside the theorems"
  }
};

const PATIENCE = 2000, SHAREABLE = 1500, MEASURES = { I: "information between all neighbours", H: "entropy of the hidden layers", KL: "divergence KL(data ‖ model)" };
const SCHEMES = { "wake-sleep": "wake-sleep", flip: "perturbation", mim: "MIM, factorial", categorical: "MIM, categorical" };
const count = (n) => Math.round(n).toLocaleString("en");

/** A rule that Python decides, beside what the theorems say of each of its choices. */
class Written {
  constructor(machine, ask) {
    Object.assign(this, { sizes: machine.sizes, ask, habit: new FactorialMIM(), queue: [] });
    this.habit.begin(machine);
    this.fired = machine.sizes.map((n) => new Float64Array(n));
    this.due = machine.sizes.map((n) => new Float64Array(n));
    Object.assign(this, { choices: 0, agreed: 0, won: 0, best: 0, turns: 0 });
  }

  decide(layer, p, u, y) {
    this.hand();
    const word = this.ask.decide(layer, ...p, ...u);
    for (let j = 0; j < y.length; j++) y[j] = (word >> (y.length - 1 - j)) & 1;
    this.weigh(layer, p, y);
  }

  /** What a choice brings, once learnt: information, against a toss and against the best choice. */
  weigh(layer, p, y) {
    const { epsilon, usual } = this.habit, h = (r) => entropy([r, 1 - r]);
    const gain = (j, bit) => h((1 - epsilon) * usual[layer][j] + epsilon * bit) - h((1 - epsilon) * p[j] + epsilon * bit);
    for (let j = 0; j < y.length; j++) {
      const off = gain(j, 0), on = gain(j, 1), toss = (1 - p[j]) * off + p[j] * on;
      this.won += (y[j] ? on : off) - toss;
      this.best += Math.max(on, off) - toss;
      this.agreed += y[j] === +(p[j] > usual[layer][j]);
      this.fired[layer][j] += y[j];
      this.due[layer][j] += p[j];
    }
    this.choices += y.length;
    this.turns += layer === 1;
  }

  /** Patterns wait for the next choice: Python is called once for all of them. */
  observe(z) {
    this.habit.observe(z);
    if (!this.ask.observe) return;
    for (const bits of z) this.queue.push(bits.reduce((word, bit) => 2 * word + bit, 0));
    if (this.queue.length >= 20 * z.length) this.hand();
  }

  hand() {
    if (this.queue.length) this.ask.observe(...this.queue.splice(0));
  }

  /** Beside the theorems; `up` are the distributions of the layers in the end. */
  verdict(up) {
    const hidden = this.sizes.map((_, l) => l).slice(1), units = hidden.reduce((sum, l) => sum + this.sizes[l], 0);
    const often = (l) => Array.from({ length: this.sizes[l] }, (_, j) => up[l].reduce((sum, p, k) => sum + p * ((k >> (this.sizes[l] - 1 - j)) & 1), 0));
    const astray = hidden.flatMap((l) => [...this.fired[l]].map((n, j) => Math.abs(n - this.due[l][j]) / this.turns));
    return {
      agreed: this.agreed / this.choices, won: this.won / this.best, astray: astray.reduce((a, b) => a + b) / units, units,
      fixed: hidden.flatMap(often).filter((r) => r < 0.01 || r > 0.99).length, collapsed: hidden.filter((l) => up[l].reduce((a, b) => Math.max(a, b)) > 0.9),
    };
  }
}

/** What runs in the worker: Python, and a machine in training whose rule is written in it. */
function engine() {
  // joined here, since the page drops the indentation of its own lines
  const DRIVER = [
    "import random, sys, traceback",
    "def begin(text, sizes):",
    "    global names, BITS",
    "    random.seed(0)",
    "    BITS = [[[k >> j & 1 for j in reversed(range(n))] for k in range(2**n)] for n in sizes]",
    "    names = {'__name__': 'program'}",
    "    exec(compile(text, 'program', 'exec'), names)",
    "    if not callable(names.get('rule')):",
    "        raise ValueError('the program defines no rule: write def rule(layer, p, u), as the examples do')",
    "    return callable(names.get('observe'))",
    "def decide(layer, *numbers):",
    "    n, word = len(numbers) // 2, 0",
    "    y = names['rule'](layer, list(numbers[:n]), list(numbers[n:]))",
    "    try:",
    "        bits = [int(bit) for bit in y if bit in (0, 1)]",
    "        right = len(bits) == len(y) == n",
    "    except TypeError:",
    "        right = False",
    "    if not right:",
    "        raise ValueError(f'rule gave {repr(y)[:60]} for layer {layer}: return a list of {n} bits, 0 or 1 for each unit')",
    "    for bit in bits:",
    "        word = 2 * word + bit",
    "    return word",
    "def observe(*words):",
    "    for at in range(0, len(words), len(BITS)):",
    "        names['observe']([table[word][:] for table, word in zip(BITS, words[at:])])",
    "def tell():",
    "    e = sys.last_exc",
    "    lines = [f.lineno for f in traceback.extract_tb(e.__traceback__) if f.filename == 'program']",
    "    line = e.lineno if isinstance(e, SyntaxError) else lines[-1] if lines else None",
    "    own = line is None and isinstance(e, ValueError)",
    "    words = e.msg if isinstance(e, SyntaxError) else str(e)",
    "    said = words if own else f'{words or \"an error without words\"} ({type(e).__name__})'",
    "    skipped = [f for f in traceback.format_exception(e) if '_pyodide' not in f and '<exec>' not in f]",
    "    return [line or 0, said, ''.join(skipped)]",
  ].join("\n");
  const ALONE = ["fetch", "XMLHttpRequest", "WebSocket", "WebSocketStream", "EventSource", "WebTransport", "Worker", "BroadcastChannel", "indexedDB", "caches"];
  let python, timer, life, printed = 0;
  const post = (data) => postMessage({ life, ...data });

  async function unpack(text) {
    const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  }

  /** Start Python from the files of the vendored script; then nothing more can be asked for. */
  async function boot({ files, lock }) {
    const bytes = Object.fromEntries(await Promise.all(Object.entries(files).map(async ([name, text]) => [name, await unpack(text)])));
    const module = (name) => import(URL.createObjectURL(new Blob([bytes[name]], { type: "text/javascript" })));
    self.importScripts = undefined; // Pyodide refuses workers that have it
    self.fetch = async (address) => new Response(bytes[String(address.url ?? address).split("/").pop()], { headers: { "Content-Type": "application/wasm" } });
    const [{ loadPyodide }, { default: createPyodideModule }] = await Promise.all(["pyodide.mjs", "pyodide.asm.mjs"].map(module));
    python = await loadPyodide({ indexURL: "python:/", stdLibURL: "python:/python_stdlib.zip", createPyodideModule, lockFileContents: lock, jsglobals: Object.create(null) });
    for (const name of ALONE) for (let o = self; o; o = Object.getPrototypeOf(o)) Reflect.deleteProperty(o, name);
    python.setStdout({ batched: (line) => printed++ < 40 && post({ printed: printed > 39 ? "…" : line.slice(0, 400) }) });
    python.runPython(DRIVER);
    post({ ready: true });
  }

  function complain(error) {
    if (error.name !== "PythonError") return post({ halted: String(error.message ?? error) });
    const [line, words, trace] = python.globals.get("tell")().toJs();
    post({ wrong: { line, words, trace } });
  }

  function run({ program, sizes, words, key, lr, every, until, span }) {
    const call = (name) => python.globals.get(name), start = performance.now();
    const watches = call("begin")(program, python.toPy(sizes));
    const machine = new Machine(sizes), data = patterns(sizes[0], words), training = new Training(machine, data, new Stream(...key), { lr, every });
    const rule = new Written(machine, { decide: call("decide"), observe: watches ? call("observe") : null });
    let next = 0;
    training.rule = rule;
    const report = () => {
      const { up, H, I, KL } = exactReport(machine, data), sum = (values) => values.reduce((a, b) => a + b, 0);
      const point = { steps: training.steps, I: sum(I.recognition), H: sum(H.recognition.slice(1)), KL: KL.recognition[0] };
      const ended = training.steps >= until && { verdict: rule.verdict(up), seconds: (performance.now() - start) / 1000 };
      post({ point, ...ended });
      next += span;
    };
    const slice = () => {
      for (const from = performance.now(); training.steps < next && performance.now() - from < 50; ) training.run(Math.min(every, next - training.steps));
      if (training.steps === next) report();
      else post({ steps: training.steps });
      if (training.steps < until) timer = setTimeout(guarded, 0, slice);
    };
    slice();
  }

  function guarded(work) {
    try {
      work();
    } catch (error) {
      complain(error);
    }
  }

  onmessage = ({ data: order }) => {
    clearTimeout(timer);
    if (order.files) boot(order).catch((error) => post({ halted: String(error.message ?? error) }));
    if (order.program) (life = order.life), (printed = 0), guarded(() => run(order));
  };
}

function render({ model, el }) {
  const [sizes, words, key, lr, every, span, runs, programs, python] = ["sizes", "words", "key", "lr", "every", "span", "runs", "programs", "python"].map((name) => model.get(name));
  const until = runs[0].steps.at(-1), first = Object.keys(programs)[0];
  let program = model.get("program") ?? programs[first], brought, trainer = null, ready = false, wanted = false, going = false, life = 0, patience, history = [];
  ground(el, model);
  const say = announcer(el);
  const publish = share(el, model, traits, {
    program: [{ may: "a text of at most 20000 characters", test: (v) => typeof v === "string" && v.length <= 20000 }, () => program, (text) => write(text)],
  });
  const address = addressed(el, "playground", (values) => write(asked(values)));
  const asked = (values) => (values.program != null ? String(values.program) : programs[values.example] ?? programs[first]);
  const example = () => Object.keys(programs).find((name) => programs[name] === program);

  const elsewhere = "In a notebook, train a machine with your rule: train(…, allocate=rule).";

  // the editor
  const examples = select("begin with", { ...Object.fromEntries(Object.keys(programs).map((name) => [name, name])), "": "a program of your own" }, first, (name) => name && write(programs[name]));
  const hint = make("p", { class: "hint", id: `hint-${key.join("-")}` }, "Tab indents; Escape, then Tab, leaves the editor; Ctrl and Enter run the program.");
  const text = make("textarea", { "aria-describedby": hint.id, spellcheck: "false", autocapitalize: "off", autocomplete: "off", rows: 13, onkeydown, oninput: () => heard() });
  const player = button("", () => (going ? stop("Stopped.") : run()), { class: "primary" });
  const status = make("p", { class: "going" }), wrong = make("div", { class: "wrong", role: "alert" }), printed = make("pre", { class: "said", role: "log", "aria-label": "what the program prints", tabindex: 0 });
  let leaving = false;
  function onkeydown(event) {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) return event.preventDefault(), going || !python || run();
    const indents = event.key === "Tab" && !leaving && !event.ctrlKey && !event.altKey, line = text.value.slice(0, text.selectionStart).split("\n").at(-1);
    if (event.key !== "Shift") leaving = event.key === "Escape";
    if (indents && event.shiftKey) outdent(line.length);
    else if (indents) type("    ");
    else if (event.key === "Enter") type(`\n${line.match(/^ */)[0]}${/:\s*$/.test(line) ? "    " : ""}`);
    else return;
    event.preventDefault();
  }
  /** As if by hand, so that it can be undone. */
  const type = (words) => document.execCommand("insertText", false, words) || (text.setRangeText(words, text.selectionStart, text.selectionEnd, "end"), heard());
  function outdent(column) {
    const at = text.selectionStart, begins = at - column, spaces = text.value.slice(begins).match(/^ {0,4}/)[0].length;
    if (!spaces) return;
    text.setRangeText("", begins, begins + spaces, "preserve");
    heard();
  }
  function heard() {
    program = text.value;
    examples.input.value = example() ?? "";
    publish({ program });
    const name = example();
    address.write(name === first ? {} : name ? { example: name } : program.length <= SHAREABLE ? { program } : {});
  }
  function write(words) {
    text.value = words;
    heard();
  }

  // what came of it
  const shown = [...runs.map(({ scheme }) => ({ name: SCHEMES[scheme], color: `var(--${scheme})` })), { name: "yours", color: "var(--yours)" }];
  const axis = (steps) => `${count(steps)} steps`;
  const plots = Object.entries(MEASURES).map(([name, title]) => {
    const plot = lines({ label: `${title} over training, for the recorded schemes and the program`, series: shown, height: 100, xlabel: axis, right: 138 });
    plot.svg.lastChild.setAttribute("stroke-width", 3.2);
    return { ...plot, name, title };
  });
  const cell = (tag, words, more = {}) => make(tag, more, words), row = (words, more = {}) => make("tr", more, cell("th", words[0], { scope: "row" }), ...words.slice(1).map((word) => cell("td", word)));
  const sheet = (caption, names) => {
    const body = make("tbody");
    const node = make("table", {}, make("caption", {}, caption), make("thead", {}, make("tr", {}, ...names.map((name) => cell("th", name, { scope: "col" })))), body);
    return { node, fill: (...rows) => body.replaceChildren(...rows) };
  };
  const after = sheet(`After ${count(until)} steps, nats`, ["scheme", "I", "H", "KL", "collapsed layers"]);
  const theorems = sheet("The program beside the theorems", ["what is asked", "found"]);
  const digits = (values) => [values.I.toFixed(2), values.H.toFixed(2), values.KL.toFixed(3)], none = (layers) => layers.join(", ") || "none";
  const last = (curves) => Object.fromEntries(Object.keys(MEASURES).map((name) => [name, curves[name].at(-1)]));
  const percent = (share, places = 0) => `${(100 * share).toFixed(places).replace("-", "−")} %`;
  function draw(verdict) {
    const x = runs[0].steps, own = history.length > 1;
    for (const { name, update, node } of plots) {
      update(x, [...runs.map((run) => run[name]), own ? history.map((h) => h[name]) : [0]], { xmax: until });
      node.lastChild.hidden = !own;
    }
    const recorded = runs.map((run) => row([SCHEMES[run.scheme], ...digits(last(run)), none(run.collapsed)]));
    after.fill(...(verdict ? [row(["yours", ...digits(history.at(-1)), none(verdict.collapsed)], { class: "yours" })] : []), ...recorded);
    theorems.node.hidden = !verdict;
    if (verdict) theorems.fill(
      row(["it fires where a unit is likelier than usual", percent(verdict.agreed, 1)]),
      row(["of the information that the best choice adds to a toss, it adds", percent(verdict.won)]),
      row(["it fires units more or less often than they are likely to, by", percent(verdict.astray, 1)]),
      row(["units that are always on or always off in the end", `${verdict.fixed} of ${verdict.units}`]),
    );
  }
  const told = ({ collapsed }) => (collapsed.length ? `${collapsed.length > 1 ? `Layers ${collapsed.join(", ").replace(/, (?=\d+$)/, " and ")} have` : `Layer ${collapsed[0]} has`} collapsed into one state.` : "Every layer is alive.");

  // Python in its worker
  function bring() {
    brought ??= new Promise((resolve, reject) => {
      const lost = () => reject(new Error(`Python could not be loaded: its script is not beside this page. ${elsewhere}`));
      document.head.append(make("script", { src: python.address, onload: () => resolve(globalThis.PYODIDE), onerror: lost }));
    });
    return brought;
  }
  function start() {
    ready = false;
    trainer?.terminate();
    const mine = (trainer = worker(engine, [upperHalf, Stream, sigmoid, listen, toss, teach, Machine, FactorialMIM, Training, patterns, logits, table, push, addProducts, entropy, divergence, conditionalEntropy, exactReport, Written]));
    // one that was ended may still say so
    mine.onmessage = ({ data }) => mine === trainer && take(data);
    mine.onerror = ({ message }) => mine === trainer && fail(message ? `Python came to a halt: ${message}` : "This browser does not let a page compute in the background.");
    bring().then((files) => mine.postMessage(files), (error) => ((brought = trainer = null), fail(error.message)));
  }
  const wait = (on) => {
    clearTimeout(patience);
    if (on) patience = setTimeout(() => (start(), fail("Stopped: for two seconds nothing came back from the program. Does a loop in it end?")), PATIENCE);
  };
  function run() {
    going = wanted = true;
    history = [];
    wrong.replaceChildren();
    printed.replaceChildren();
    draw();
    status.textContent = ready ? "It begins." : "Python is starting; it takes some seconds.";
    label();
    if (!trainer) start();
    else if (ready) send();
  }
  function send() {
    wanted = false;
    trainer.postMessage({ life: ++life, program, sizes, words, key, lr, every, until, span });
    wait(true);
  }
  function stop(sentence) {
    wait(false);
    going = wanted = false;
    if (ready) trainer.postMessage({});
    status.textContent = sentence;
    label();
  }
  function fail(sentence, ...more) {
    stop("");
    wrong.replaceChildren(make("p", {}, sentence), ...more);
  }
  function take(data) {
    if (data.ready) {
      ready = true;
      label();
      return wanted && send();
    }
    if (data.halted) return halt(data.halted);
    if (!going || data.life !== life) return; // of a run that was given up
    wait(true);
    if (data.printed != null) printed.append(`${data.printed}\n`);
    if (data.wrong) return blame(data.wrong);
    if (data.point) history = [...history, data.point];
    const steps = data.point?.steps ?? data.steps;
    if (steps != null) status.textContent = `${count(steps)} of ${count(until)} steps`;
    if (data.point) draw(data.verdict), publish({ steps, history }, 300);
    if (data.verdict) end(data);
  }
  function halt(words) {
    const began = ready;
    if (began) start();
    else trainer = trainer.terminate() ?? null;
    fail(`Python ${began ? "came to a halt and starts anew" : "does not start in this browser"}: ${words}`);
  }
  function end({ verdict, seconds }) {
    stop(`${told(verdict)} ${count(until)} steps took ${seconds.toFixed(1)} s.`);
    publish({ steps: until, history, verdict });
    say(`${told(verdict)} Information ${history.at(-1).I.toFixed(1)} nats.`);
  }
  function blame({ line, words, trace }) {
    const code = line ? program.split("\n")[line - 1]?.trim() : "", sentence = line ? `Line ${line}: ${words}.` : `${words[0].toUpperCase()}${words.slice(1)}.`;
    const whole = make("details", {}, make("summary", {}, "what Python says"), make("pre", { role: "log", "aria-label": "what Python says", tabindex: 0 }, trace.trim()));
    fail(sentence, ...(code ? [make("p", {}, make("code", {}, code))] : []), ...(line ? [whole] : []));
  }
  function label() {
    player.textContent = going ? "Stop" : brought ? "Run" : `Load Python (${(python?.bytes / 1e6).toFixed(1)} MB) and run`;
    el.dataset.going = going;
  }

  el.append(
    make("style", {}, STYLE),
    make("div", { class: "playground" },
      make("div", { class: "written" }, make("div", { class: "controls" }, examples), make("label", {}, make("span", { class: "name" }, "your rule, in Python"), text), hint,
        ...(python ? [make("div", { class: "controls" }, player)] : [make("p", { class: "hint" }, `Programs run on the page of the book that is called A playground. ${elsewhere}`)]), status, wrong, printed),
      make("div", {}, ...plots.flatMap(({ title, node }) => [make("div", { class: "title" }, title), node])),
      make("div", {}, after.node, theorems.node)),
  );
  const sent = address.read();
  write("program" in sent || "example" in sent ? asked(sent) : program);
  draw();
  label();
  return () => trainer?.terminate();
}

export default { render };

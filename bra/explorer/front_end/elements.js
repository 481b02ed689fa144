// The elements of an explorer, made once; and the controls, which show what is chosen.

import { buildBlocks } from "./blocks.js";
import { make } from "./canvas.js";
import { isStill } from "./play.js";
import { BARS } from "./tables.js";
import { sayRegions } from "./words.js";

/** @import { Layer, Payload } from "./layer.js" */
/** @import { Now } from "./now.js" */

/** @typedef {Record<string, any>} Elements by name: the element that shows a thing, or takes it */

/** @param {Payload} payload @param {Layer[]} layers @returns {Elements} */
export function build(payload, layers) {
  /** @type {Elements} */
  const view = { shows: [], keys: {} };
  view.status = make("p", { class: "status", role: "status", "aria-live": "polite" });
  view.pointer = make("p", { class: "pointer", "aria-live": "polite" });
  const left = make("div", { class: "left" }, buildMeanings(view), buildStage(view, payload));
  const right = make("div", { class: "right" }, buildRow(view), buildMatrix(view));
  const says = make("div", { class: "says" }, view.status, view.pointer);
  const keys = make("details", {}, make("summary", {}, "Keys"), make("p", {},
    "Tab goes from part to part. On the image, arrow keys choose a region, or a token. On the affinity row and matrix they "
    + "point at a pair, and Enter chooses its reader (on the row: the region pointed at)."));
  const source = payload.source ? [make("div", { class: "source" }, payload.source)] : [];
  view.section = make("section", { class: "explorer", "aria-label": payload.title || "Explorer" },
    buildIntroduction(view, payload), buildControls(view, payload, layers),
    make("div", { class: "panels" }, says, left, right, buildBlocks(view, payload, layers)), keys, ...source);
  return view;
}

/** What all this is, for whoever sees it for the first time. @param {Elements} view @param {Payload} payload */
function buildIntroduction(view, payload) {
  const says = payload.says ? [make("span", { class: "answer" }, ` ${payload.says}`)] : [];
  const task = make("p", { class: "task" }, make("strong", {}, payload.question), ...says);
  view.about = make("p", { class: "about" });
  const hint = make("p", { class: "hint" }, make("b", {}, "Try first: "), payload.hint);
  return make("header", {}, make("div", {}, ...(payload.title ? [make("h3", {}, payload.title)] : []),
    ...(payload.question || payload.says ? [task] : [])), make("div", {}, view.about, hint));
}

/** @param {Elements} view */
function buildMeanings(view) {
  const meanings = [
    ["The image.", " A curve runs from the chosen region to each that it reads: the thicker, the higher the affinity (for one "
      + "token: the attention). Frames are numbered by rank: 1 is the first choice. What is not read is dimmed."],
    ["The chosen region.", " A bar for every region: its affinity, how well what is sought here fits what lies there. A router "
      + "that goes by content reads the highest."],
    ["All regions.", " The same for every region at once, in a row for each that reads. A dot marks what it reads."],
  ];
  const list = meanings.map(([name, meaning]) => make("li", {}, make("b", {}, name), meaning));
  view.meanings = make("details", { open: "", class: "meanings" }, make("summary", {}, "What the three pictures mean"),
    make("ol", {}, ...list));
  return view.meanings;
}

/** @param {Elements} view @param {Payload} payload @param {Layer[]} layers */
function buildControls(view, payload, layers) {
  const label = (/** @type {string} */ text, /** @type {Element} */ control) => make("label", {}, `${text} `, control);
  const choice = (/** @type {string} */ value, /** @type {string} */ text) => {
    const radio = make("input", { type: "radio", name: "show", value });
    view.shows.push(radio);
    return make("label", {}, radio, ` ${text}`);
  };
  /** @type {Map<string, Element[]>} */
  const stages = new Map(); // blocks whose label begins with one stage stand together
  layers.forEach((layer, i) => {
    const stage = layer.label.match(/^(stage \d+), /)?.[1] ?? "";
    stages.set(stage, [...(stages.get(stage) ?? []), make("option", { value: i }, layer.label)]);
  });
  const options = [...stages].flatMap(([stage, found]) =>
    (stage ? [make("optgroup", { label: stage }, ...found)] : found));
  view.block = make("select", {}, ...options);
  view.head = make("select");
  view.headLabel = label("Head", view.head);
  if (layers.every((layer) => !layer.heads)) view.headLabel.hidden = true; // else it keeps its place when it is not seen
  const shows = [choice("reads", "whom it reads"), choice("readers", "who reads it"),
    choice("tokens", "one token's attention")];
  return make("div", { class: "controls" }, label("Block", view.block),
    make("div", { role: "radiogroup", "aria-label": "Show" }, ...shows), view.headLabel, buildSteps(view, payload));
}

/** The slider of the training steps, a dot for each, and what plays them. @param {Elements} view @param {Payload} payload */
function buildSteps(view, { steps, truth }) {
  const last = steps.length - 1;
  view.play = make("button", { type: "button", class: "play" });
  view.step = make("input", { type: "range", min: 0, max: last, value: last });
  view.stepNow = make("span", { class: "now" }, steps[last]);
  view.stops = truth ? steps.map(() => make("i")) : [];
  const stops = make("span", { class: "stops", "aria-hidden": "true" }, ...view.stops);
  const key = truth ? [make("span", { class: "stop-key", "aria-hidden": "true" }, make("i", { class: "hit" }), " hit ",
    make("i"), " miss")] : [];
  const track = make("span", { class: "track" }, view.step, stops);
  const found = make("div", { class: "steps" }, view.play, make("label", {}, "Training step ", track), view.stepNow, ...key);
  found.hidden = last === 0;
  return found;
}

/** @param {string} title @param {Element} child @param {...(string | Node)} caption */
const figure = (title, child, ...caption) =>
  make("figure", {}, make("h4", {}, title), child, make("figcaption", {}, ...caption));

/** The image with all that lies over it, and its legend. @param {Elements} view @param {Payload} payload */
function buildStage(view, payload) {
  view.picture = make("canvas");
  view.cover = make("canvas");
  view.overlay = make("svg", { preserveAspectRatio: "none", "aria-hidden": "true" });
  const about = { class: "stage", tabindex: 0, role: "application", "aria-roledescription": "image with regions" };
  view.stage = make("div", about, view.picture, view.cover, view.overlay);
  const key = (/** @type {string} */ kind, /** @type {string} */ text) => {
    const frame = { x: 3, y: 3, width: 22, height: 12 };
    const drawn = [make("rect", { class: "rim", ...frame }), make("rect", { class: kind, ...frame })];
    const sample = make("svg", { viewBox: "0 0 28 18", "aria-hidden": "true" }, ...drawn);
    return (view.keys[kind] = make("span", { class: "key" }, sample, ` ${text}`));
  };
  view.heatSays = make("span");
  view.keys.heat = make("span", { class: "key" }, make("i"), view.heatSays);
  const truth = payload.truth ? [key("should", "the right answer"), key("asker", "asks for it")] : [];
  return figure("1 The image", view.stage, key("asks", "chosen"), key("reads", "it reads, by rank"),
    key("reader", "reads it, at which rank"), ...truth, view.keys.heat);
}

/** @param {string} name @param {string} says */
const part = (name, says) => ({ class: name, tabindex: 0, role: "application", "aria-label": says });

/** The affinities of one region, as bars. @param {Elements} view */
function buildRow(view) {
  const box = `${-BARS.left} 0 ${BARS.left + BARS.width} ${BARS.height}`;
  view.bars = make("svg", { viewBox: box, "aria-hidden": "true" });
  view.row = make("div", part("row", "Affinity row. Left and right point at a region, Enter chooses it."), view.bars);
  view.rowSays = make("span");
  return figure("2 The chosen region", view.row, view.rowSays);
}

/** The affinities of all regions, as a matrix. @param {Elements} view */
function buildMatrix(view) {
  view.cells = make("canvas");
  view.links = make("svg", { "aria-hidden": "true" });
  view.matrix = make("div", part("matrix", "Affinity matrix. Arrow keys point at a pair, Enter chooses its reader."),
    view.cells, view.links);
  view.padding = make("span", {}, " Grey: regions of nothing but padding.");
  return figure("3 All regions", view.matrix,
    "Affinity of every region (down) to every region (across), brighter is higher; dots: read.", view.padding);
}

/** @param {Elements} view @param {Now} now */
export function showControls(view, { block, layer, step, steps, show, head, playing, truth }) {
  view.block.value = block;
  view.step.value = step;
  view.step.setAttribute("aria-valuetext", steps[step]);
  view.stepNow.textContent = steps[step];
  view.play.textContent = isStill() ? "Next step" : playing ? "Pause" : "Play";
  view.play.classList.toggle("playing", playing);
  view.status.setAttribute("aria-live", playing ? "off" : "polite"); // or it would talk over each step
  if (truth) {
    const [asked, answer] = truth, there = Math.max(asked, answer) < layer.regions;
    view.stops.forEach((/** @type {Element} */ stop, /** @type {number} */ i) => {
      stop.className = `${there && layer.reads(i, asked).includes(answer) ? "hit" : ""}${i === step ? " here" : ""}`;
    });
  }
  for (const choice of view.shows) choice.checked = choice.value === show;
  view.headLabel.classList.toggle("unseen", show !== "tokens" || !layer.heads);
  if (view.head.options.length !== layer.heads + 1) {
    const heads = Array.from({ length: layer.heads }, (_, m) => make("option", { value: m }, m));
    view.head.replaceChildren(make("option", { value: -1 }, "all (mean)"), ...heads);
    view.head.value = head;
  }
  view.about.textContent = sayRegions(layer, step);
  view.stage.setAttribute("aria-label", `The image. Arrow keys choose a ${show === "tokens" ? "token" : "region"}.`);
}

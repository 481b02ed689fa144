// The elements of an explorer, made once; and the controls, which show what is chosen.

import { make } from "./canvas.js";
import { sayHit } from "./words.js";
import { BARS } from "./tables.js";

/** @import { Layer, Payload } from "./layer.js" */
/** @import { Now } from "./explorer.js" */

/** @typedef {Record<string, any>} Elements by name: the element that shows a thing, or takes it */

/** @param {Payload} payload @param {Layer[]} layers @returns {Elements} */
export function build(payload, layers) {
  /** @type {Elements} */
  const view = { shows: [], keys: {} };
  const panels = make("div", { class: "panels" }, buildStage(view, payload), buildTables(view));
  const status = make("p", { class: "status", role: "status", "aria-live": "polite" });
  const pointer = make("p", { class: "pointer", "aria-live": "polite" });
  const keys = make("details", {}, make("summary", {}, "Keys"), make("p", {},
    "Tab goes from part to part. On the image, arrow keys choose a region, or a token. On the affinity row and matrix they "
    + "point at a pair, and Enter chooses its reader (on the row: the region pointed at)."));
  const title = payload.title ? [make("h3", {}, payload.title)] : [];
  const section = make("section", { class: "explorer", "aria-label": payload.title || "Explorer" }, ...title,
    buildControls(view, payload, layers), status, panels, pointer, buildBlocks(view, payload, layers), keys);
  return Object.assign(view, { status, pointer, section });
}

/** @param {Elements} view @param {Payload} payload @param {Layer[]} layers */
function buildControls(view, payload, layers) {
  const last = payload.steps.length - 1;
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
  view.step = make("input", { type: "range", min: 0, max: last, value: last });
  view.stepNow = make("span", { class: "now" }, payload.steps[last]);
  view.head = make("select");
  view.headLabel = label("Head", view.head);
  const step = make("div", { class: "steps" }, label("Training step", view.step), view.stepNow);
  step.hidden = last === 0;
  const shows = [choice("reads", "whom it reads"), choice("readers", "who reads it"),
    choice("tokens", "one token's attention")];
  return make("div", { class: "controls" }, label("Block", view.block),
    make("div", { role: "radiogroup", "aria-label": "Show" }, "Show ", ...shows), view.headLabel, step);
}

/** @param {(string | Node)[]} caption @param {Element} child */
const figure = (caption, child) => make("figure", {}, child, make("figcaption", {}, ...caption));

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
  return figure([key("asks", "chosen"), key("reads", "it reads, by rank"), key("reader", "reads it, at which rank"),
    ...truth, view.keys.heat], view.stage);
}

/** The affinities: of one region as bars, of all as a matrix. @param {Elements} view */
function buildTables(view) {
  const part = (/** @type {string} */ name, /** @type {string} */ says) =>
    ({ class: name, tabindex: 0, role: "application", "aria-label": says });
  const box = `${-BARS.left} 0 ${BARS.left + BARS.width} ${BARS.height}`;
  view.bars = make("svg", { viewBox: box, "aria-hidden": "true" });
  view.row = make("div", part("row", "Affinity row. Left and right point at a region, Enter chooses it."), view.bars);
  view.cells = make("canvas");
  view.links = make("svg", { "aria-hidden": "true" });
  view.matrix = make("div", part("matrix", "Affinity matrix. Arrow keys point at a pair, Enter chooses its reader."),
    view.cells, view.links);
  view.rowSays = make("span");
  view.padding = make("span", {}, " Grey: regions of nothing but padding.");
  return make("div", {}, figure([view.rowSays], view.row),
    figure(["Affinity of every region (down) to every region (across), brighter is higher; dots: read.", view.padding],
      view.matrix));
}

/** The table of all blocks. @param {Elements} view @param {Payload} payload @param {Layer[]} layers */
function buildBlocks(view, payload, layers) {
  const last = payload.steps.length - 1, names = Object.keys(payload.columns);
  const hits = payload.truth
    ? ["asking region reads the right one, this image", "right one reads the asking one, this image"] : [];
  const when = last ? `, after step ${payload.steps[last]}` : ""; // unlike `hits`, which follow the slider
  const heads = ["block", "regions", "each reads", ...hits, ...names.map((name) => name + when)];
  const head = make("tr", {}, ...heads.map((name) => make("th", { scope: "col" }, name)));
  view.buttons = layers.map((layer) => make("button", { type: "button" }, layer.label));
  view.hits = layers.map(() => hits.map(() => make("td")));
  const rows = layers.map((layer, i) => make("tr", {}, make("th", { scope: "row" }, view.buttons[i]),
    make("td", {}, `${layer.rows} x ${layer.columns}`), make("td", {}, layer.packed.routes[last].k), ...view.hits[i],
    ...names.map((name) => make("td", {}, payload.columns[name][i]))));
  const scroll = make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Every block" },
    make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)));
  return make("details", { open: "" }, make("summary", {}, "Every block"), scroll);
}

/** @param {Elements} view @param {Now} now */
export function showControls(view, { block, layer, step, steps, show, head }) {
  view.block.value = block;
  view.step.value = step;
  view.step.setAttribute("aria-valuetext", steps[step]);
  view.stepNow.textContent = steps[step];
  for (const choice of view.shows) choice.checked = choice.value === show;
  view.headLabel.hidden = show !== "tokens" || !layer.heads;
  if (view.head.options.length !== layer.heads + 1) {
    const heads = Array.from({ length: layer.heads }, (_, m) => make("option", { value: m }, m));
    view.head.replaceChildren(make("option", { value: -1 }, "all (mean)"), ...heads);
    view.head.value = head;
  }
  view.stage.setAttribute("aria-label", `The image. Arrow keys choose a ${show === "tokens" ? "token" : "region"}.`);
}

/**
 * Which block is shown, and in which the right regions meet.
 * @param {Elements} view @param {Now} now @param {Layer[]} layers
 */
export function showBlocks(view, { block, step, truth }, layers) {
  view.buttons.forEach((/** @type {Element} */ button, /** @type {number} */ i) =>
    button.setAttribute("aria-pressed", String(i === block)));
  if (!truth) return;
  const [asked, answer] = truth;
  layers.forEach((layer, i) => {
    view.hits[i][0].textContent = sayHit(layer, step, asked, answer);
    view.hits[i][1].textContent = sayHit(layer, step, answer, asked);
  });
}

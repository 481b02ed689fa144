// What follows from a click, a key, a word from Python, or a change of the page.

import { along, take } from "./canvas.js";
import { Player } from "./play.js";
import { BARS } from "./tables.js";
import { clamp } from "./words.js";

/** @import { Explorer } from "./explorer.js" */
/** @import { Pair } from "./now.js" */

const ARROWS = new Map(Object.entries({ ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }));
const SHARED = ["query", "block", "token", "step"]; // with Python

/** Returns what stops all that goes on by itself. @param {Explorer} explorer */
export function listen(explorer) {
  const { view } = explorer, player = new Player(explorer);
  view.block.addEventListener("change", () => explorer.chooseBlock(Number(view.block.value)));
  view.play.addEventListener("click", () => player.press());
  view.step.addEventListener("input", () => {
    const step = Number(view.step.value);
    player.stop();
    explorer.share({ step: explorer.payload.steps[step] });
  });
  view.head.addEventListener("change", () => {
    explorer.head = Number(view.head.value);
    explorer.update();
  });
  for (const choice of view.shows) choice.addEventListener("change", () => explorer.chooseShow(choice.value));
  view.buttons.forEach((/** @type {Element} */ button, /** @type {number} */ block) =>
    button.addEventListener("click", () => explorer.chooseBlock(block)));
  listenToStage(explorer);
  listenToRow(explorer);
  listenToMatrix(explorer);
  for (const element of [view.stage, view.row, view.matrix]) {
    element.addEventListener("pointerleave", () => explorer.point(null));
    element.addEventListener("blur", () => explorer.point(null));
  }
  return () => player.stop();
}

/** Mouse, touch, arrow keys. @param {Explorer} explorer */
function listenToStage(explorer) {
  const { stage } = explorer.view;
  const under = (/** @type {MouseEvent} */ event) => {
    const { layer } = explorer.chosen();
    return /** @type {const} */ ([along(event, stage, layer.h, true), along(event, stage, layer.w)]);
  };
  stage.addEventListener("click", (/** @type {MouseEvent} */ event) => explorer.choose(...under(event)));
  stage.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => {
    const [y, x] = under(event);
    if (event.pointerType === "mouse" && event.buttons & 1) explorer.choose(y, x);
    else explorer.point(explorer.paired(explorer.chosen().layer.regionAt(y, x)));
  });
  stage.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    const direction = ARROWS.get(event.key);
    if (!direction) return;
    take(event);
    explorer.step(direction);
  });
}

/** @param {Explorer} explorer */
function listenToRow(explorer) {
  const { row, bars } = explorer.view;
  const other = (/** @type {Pair} */ pair) => (explorer.chosen().inward ? pair.from : pair.to);
  const under = (/** @type {MouseEvent} */ event) => { // right of the ends of the scale
    const { left, right } = bars.getBoundingClientRect(), { regions } = explorer.chosen().layer;
    const at = ((event.clientX - left) / (right - left)) * (BARS.left + BARS.width) - BARS.left;
    return explorer.paired(clamp(Math.floor((at / BARS.width) * regions), 0, regions - 1));
  };
  const move = (/** @type {Pair} */ pair, /** @type {number[]} */ [down, right]) =>
    explorer.paired(clamp(other(pair) + right + down, 0, explorer.chosen().layer.regions - 1));
  listenToPairs(explorer, row, under, move, other);
}

/** @param {Explorer} explorer */
function listenToMatrix(explorer) {
  const { matrix } = explorer.view;
  const under = (/** @type {MouseEvent} */ event) => {
    const { regions } = explorer.chosen().layer;
    return { from: along(event, matrix, regions, true), to: along(event, matrix, regions) };
  };
  const move = (/** @type {Pair} */ { from, to }, /** @type {number[]} */ [down, right]) => {
    const { regions } = explorer.chosen().layer;
    return { from: clamp(from + down, 0, regions - 1), to: clamp(to + right, 0, regions - 1) };
  };
  listenToPairs(explorer, matrix, under, move, (pair) => pair.from);
}

/**
 * Row and matrix alike: pointing shows a pair, choosing makes one of it the query.
 * @param {Explorer} explorer
 * @param {HTMLElement} element
 * @param {(event: MouseEvent) => Pair} under
 * @param {(pair: Pair, direction: number[]) => Pair} move
 * @param {(pair: Pair) => number} chosen
 */
function listenToPairs(explorer, element, under, move, chosen) {
  element.addEventListener("pointermove", (event) => explorer.point(under(event)));
  element.addEventListener("click", (event) => {
    const pair = under(event);
    explorer.chooseRegion(chosen(pair));
    explorer.point(pair);
  });
  element.addEventListener("keydown", (event) => {
    const { query } = explorer.chosen(), pair = explorer.over ?? { from: query, to: query }, direction = ARROWS.get(event.key);
    if (event.key === "Enter" || event.key === " ") explorer.chooseRegion(chosen(pair));
    else if (direction) explorer.point(move(pair, direction));
    else return;
    take(event);
  });
}

/**
 * Follow Python and the page until one calls what is returned. Text is dark on light or light on dark, as the page has
 * it; controls must follow.
 * @param {Explorer} explorer @param {HTMLElement} el
 */
export function follow(explorer, el) {
  const { model, view } = explorer;
  const adapt = () => {
    if (!el.isConnected) return; // JupyterLab puts it on the page later, which changes its size
    const [r, g, b] = (getComputedStyle(el).color.match(/[\d.]+/g) ?? []).map(Number);
    view.section.style.colorScheme = 0.3 * r + 0.6 * g + 0.1 * b > 128 ? "dark" : "light";
    explorer.measure();
  };
  const theme = new MutationObserver(adapt), placed = new ResizeObserver(adapt);
  const prefers = matchMedia("(prefers-color-scheme: dark)");
  for (const element of [el, view.stage, view.row]) placed.observe(element);
  for (const element of [document.documentElement, document.body]) theme.observe(element, { attributes: true });
  prefers.addEventListener("change", adapt);
  adapt();
  const update = () => explorer.update();
  for (const name of SHARED) model.on(`change:${name}`, update);
  return () => {
    for (const name of SHARED) model.off(`change:${name}`, update);
    theme.disconnect();
    placed.disconnect();
    prefers.removeEventListener("change", adapt);
  };
}

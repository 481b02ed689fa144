// The affinities: of the chosen region as a row of bars, of all regions as a matrix.

import { heat, make, paint } from "./canvas.js";
import { PADDING } from "./layer.js";
import { MOST_NUMBERED } from "./stage.js";

/** @import { Layer } from "./layer.js" */
/** @import { Elements } from "./elements.js" */
/** @import { Now } from "./now.js" */

export const BARS = { left: 40, width: 320, top: 14, bottom: 84, height: 98 }; // of the row of bars, in its own units
const MOST_DOTS = 2500; // in the matrix
const LEAST = 11; // pixels of a bar that has its rank above it

/**
 * The bars of the chosen region: of its row of the matrix or, if one asks who reads it, of its column.
 * @param {Elements} view @param {Now} now
 */
export function drawRow(view, { layer, step, query, inward, routed, readers, over, line: pixel }) {
  /** @type {Map<number, number>} */
  const ranks = new Map(
    inward ? readers.map(({ region, rank }) => [region, rank]) : routed.map((region, i) => [region, i + 1]));
  const value = (/** @type {number} */ j) =>
    (!inward ? layer.affinity(step, query, j) : layer.isReal(j) ? layer.affinity(step, j, query) : -Infinity);
  const table = layer.table(step), low = Math.min(0, table.low), high = Math.max(0, table.high); // a bar begins at 0
  const unit = high > low ? (BARS.bottom - BARS.top) / (high - low) : 0, line = BARS.bottom + low * unit;
  const width = BARS.width / layer.regions, many = layer.regions > MOST_NUMBERED; // too narrow for outlines
  const size = Math.min(12 * pixel, 0.78 * width), above = []; // two digits are narrower than a bar
  let rest = "", found = "";
  for (let j = 0; j < layer.regions; j++) {
    const height = Number.isFinite(value(j)) ? value(j) * unit : 0;
    const bar = `M${j * width} ${line}v${-height}h${0.86 * width}v${height}z`, rank = ranks.get(j);
    if (rank === undefined) {
      rest += bar;
      continue;
    }
    found += bar;
    const x = (j + 0.43) * width, y = line - Math.max(0, height) - 3;
    above.push(many || width < LEAST * pixel
      ? make("path", { class: "peak", d: `M${x} ${y + 1}l${-2.5 * pixel} ${-6 * pixel}h${5 * pixel}z` })
      : make("text", { x, y, class: "tick", "font-size": size }, rank));
  }
  const [chosen, other] = (inward ? [over?.to, over?.from] : [over?.from, over?.to]).map(Number);
  const frame = { class: "over", x: other * width, y: 0.5, width, height: BARS.bottom + 1 };
  view.bars.replaceChildren(make("path", { class: "rest", d: rest }),
    make("path", { class: `read ${inward ? "reader" : "reads"}${many ? " many" : ""}`, d: found }),
    make("path", { class: "zero", d: `M0 ${line}H${BARS.width}` }), ...above,
    ...scale(layer, low, high, line, pixel), ...(chosen === query ? [make("rect", frame)] : []));
  view.rowSays.textContent = inward
    ? "How much every region wants to read the chosen one, numbered row by row; above those who do, their rank for it."
    : "Affinity of the chosen region to every region, numbered row by row; above those it reads, their rank.";
}

/**
 * What stands around the bars: at the left the ends of the scale, below the numbers of regions.
 * @param {Layer} layer @param {number} low @param {number} high @param {number} zero where 0 lies @param {number} pixel
 */
function scale(layer, low, high, zero, pixel) {
  const text = (/** @type {string} */ name, /** @type {number} */ x, /** @type {number} */ y, /** @type {number} */ says) =>
    make("text", { class: name, x, y, "font-size": 11 * pixel }, says);
  const ends = low < high ? [[BARS.top, high], [BARS.bottom, low]] : [[BARS.bottom, low]];
  const crowded = (/** @type {number} */ y) => ends.some(([end]) => Math.abs(end - y) < 12 * pixel);
  if (!crowded(zero)) ends.push([zero, 0]);
  const perRow = layer.rows > 2 && layer.rows <= 10 ? layer.columns : 7; // each row's first
  const every = layer.regions <= 16 ? 1 : perRow;
  const numbered = [...Array(layer.regions).keys()].filter((j) => j % every === 0 && layer.regions <= MOST_NUMBERED);
  return [...ends.map(([y, end]) => text("end", -4, y + 3, Number(end.toPrecision(3)))),
    ...numbered.map((j) => text("tick place", ((j + 0.43) * BARS.width) / layer.regions, BARS.bottom + 12, j))];
}

/** @param {Elements} view @param {Now} now */
export function drawMatrix(view, { block, layer, step, query, inward, over }) {
  const { k } = layer.table(step), r = layer.regions, shown = `${block} ${step}`;
  if (view.matrixShows !== shown) { // its cells change with the block and the step only
    view.matrixShows = shown;
    view.dots = drawCells(view, layer, step);
    view.padding.hidden = layer.isReal(r - 1);
  }
  const gap = 0.01 * r; // the frame goes around the chosen row or column: on it, it would hide thin cells
  const row = { x: -gap, y: query - gap, width: r + 2 * gap, height: 1 + 2 * gap };
  const column = { x: row.y, y: row.x, width: row.height, height: row.width };
  const line = inward ? column : row;
  const marks = [...axes(layer), view.dots, make("rect", { class: "rim", ...line }), make("rect", { class: "asks", ...line })];
  if (r * k > MOST_DOTS) { // then only those of the query
    marks.push(make("path", { class: "dots", d: layer.reads(step, query).map((j) => `M${j} ${query}h1v1h-1z`).join("") }));
  }
  if (over) {
    const cell = { x: over.to, y: over.from, width: 1, height: 1 };
    const cross = `M${cell.x + 0.5} 0V${r}M0 ${cell.y + 0.5}H${r}`;
    marks.push(make("path", { class: "over", d: cross }), make("rect", { class: "over", ...cell }));
  }
  view.links.setAttribute("viewBox", `0 0 ${r} ${r}`);
  view.links.replaceChildren(...marks);
}

/** Numbers and names beside the matrix, which is as wide as it has regions. @param {Layer} layer */
function axes({ regions: r, columns }) {
  const size = 0.042 * r;
  let every = columns;
  while (r / every > 9) every *= 2;
  const numbered = [...Array(r).keys()].filter((i) => i % every === 0);
  /** @param {string} name @param {number} x @param {number} y @param {string | number} says */
  const text = (name, x, y, says, turn = "") => make("text", { class: name, x, y, "font-size": size, transform: turn }, says);
  const beside = -2.6 * size, below = r + 2.4 * size, middle = r / 2;
  return [...numbered.map((i) => text("end", -0.4 * size, i + 0.5 + 0.35 * size, i)),
    ...numbered.map((i) => text("tick", i + 0.5, r + 1.1 * size, i)), text("tick", middle, below, "region that is read"),
    text("tick", beside, middle, "region that reads", `rotate(-90 ${beside} ${middle})`)];
}

/** Paints the matrix, and returns the dots on what is read. @param {Elements} view @param {Layer} layer @param {number} step */
function drawCells(view, layer, step) {
  const { codes, k, index } = layer.table(step), r = layer.regions;
  const padding = Array.from({ length: r }, (_, i) => !layer.isReal(i)); // reads nobody, and nobody reads it
  const isGrey = (/** @type {number} */ i) => codes[i] === PADDING || padding[Math.floor(i / r)];
  paint(view.cells, r, r, (i) => (isGrey(i) ? [128, 128, 128, 60] : [...heat(codes[i] / (PADDING - 1)), 255]));
  let d = "";
  for (let n = 0; n < r * k && r * k <= MOST_DOTS; n++) {
    const i = Math.floor(n / k);
    if (!padding[i]) d += `M${index[n] + 0.32} ${i + 0.32}h.36v.36h-.36z`;
  }
  return make("path", { class: "dots", d });
}

// The table of all blocks: how many regions each has, how many they read, and in which the right ones meet.

import { make } from "./canvas.js";
import { sayHit } from "./words.js";

/** @import { Layer, Payload } from "./layer.js" */
/** @import { Elements } from "./elements.js" */
/** @import { Now } from "./now.js" */

const MOST_ROWS = 8; // without scrolling

/** @param {Elements} view @param {Payload} payload @param {Layer[]} layers */
export function buildBlocks(view, payload, layers) {
  const last = payload.steps.length - 1, names = Object.keys(payload.columns);
  const hits = payload.truth
    ? ["asking region reads the right one, this image", "right one reads the asking one, this image"] : [];
  const when = last ? `, after step ${payload.steps[last]}` : ""; // unlike `hits`, which follow the slider
  const heads = ["block", "regions", "each reads", ...hits, ...names.map((name) => name + when)];
  // on a narrow page a row is shown as a card: its cells then bear the heads, and the roles must be said
  const cell = (/** @type {number} */ i, /** @type {string | number} */ ...says) =>
    make("td", { role: "cell", "data-head": heads[i] }, ...says);
  const head = make("tr", { role: "row" }, ...heads.map((name) => make("th", { scope: "col", role: "columnheader" }, name)));
  view.buttons = layers.map((layer) => make("button", { type: "button" }, layer.label));
  view.hits = layers.map(() => hits.map((_, i) => cell(3 + i)));
  const rows = layers.map((layer, i) => make("tr", { role: "row" },
    make("th", { scope: "row", role: "rowheader" }, view.buttons[i]),
    cell(1, `${layer.rows} x ${layer.columns}`), cell(2, layer.packed.routes[last].k), ...view.hits[i],
    ...names.map((name, n) => cell(3 + hits.length + n, payload.columns[name][i]))));
  const table = make("table", { role: "table", class: heads.length > 3 ? "cards" : "" },
    make("thead", { role: "rowgroup" }, head), make("tbody", { role: "rowgroup" }, ...rows));
  const many = layers.length > MOST_ROWS ? " many" : "";
  const scroll = make("div", { class: `scroll${many}`, tabindex: 0, role: "region", "aria-label": "Every block" }, table);
  return make("details", { open: "", class: "blocks" }, make("summary", {}, "Every block"), scroll);
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
    [[asked, answer], [answer, asked]].forEach(([from, to], way) => {
      const says = sayHit(layer, step, from, to);
      view.hits[i][way].textContent = says;
      view.hits[i][way].className = says.startsWith("hit") ? "met hit" : "met";
    });
  });
}

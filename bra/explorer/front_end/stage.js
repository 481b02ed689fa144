// What lies over the image: outlines and labels of regions, heat where a token looks, and the legend below.

import { heat, make, paint } from "./canvas.js";
import { percent } from "./words.js";

/** @import { Layer } from "./layer.js" */
/** @import { Elements } from "./elements.js" */
/** @import { Now } from "./explorer.js" */

export const MOST_NUMBERED = 64; // regions on the image and below the bars: more would be too small to read

/** @param {Elements} view @param {Now} now */
export function drawStage(view, now) {
  const { layer, query, token, inward, routed, readers, partner, over } = now, tall = upright(now);
  const frames = [gridLines(layer)], labels = names(layer, tall);
  const add = (/** @type {number} */ region, /** @type {string} */ kind, /** @type {number | string} */ label = "") => {
    const found = mark(layer, tall, region, kind, label);
    frames.push(...found.frames);
    labels.push(...found.labels);
  };
  if (inward) for (const { region, rank } of readers) add(region, "reader", rank);
  else routed.forEach((region, i) => add(region, "reads", i + 1));
  if (partner) add(partner.region, partner.kind);
  add(query, "asks");
  if (token !== null) {
    const [y, x] = layer.at(token), spot = { x, y, width: 1, height: 1 };
    frames.push(make("rect", { class: "rim", ...spot }), make("rect", { class: "token", ...spot }));
  }
  for (const region of over ? new Set([over.from, over.to]) : []) if (region !== query) add(region, "over");
  view.overlay.setAttribute("viewBox", `0 0 ${layer.w} ${layer.h}`);
  view.overlay.replaceChildren(...frames, make("g", { transform: `scale(1 ${1 / tall})` }, ...labels));
}

/**
 * The height of a token on the screen, in widths of one. Outlines are drawn in tokens, which need not be square there;
 * labels must not be stretched with them, so their group is scaled by the inverse.
 * @param {{layer: Layer, shape: number}} now
 */
const upright = ({ layer, shape }) => layer.w / layer.h / shape;

/** @param {Layer} layer */
function gridLines(layer) {
  const [rows, columns] = layer.inner();
  const d = rows.map((y) => `M0 ${y}H${layer.w}`).join("") + columns.map((x) => `M${x} 0V${layer.h}`).join("");
  return make("path", { class: "lines", d });
}

/** @param {Layer} layer @param {number} tall @param {number} region @param {string} kind @param {number | string} label */
function mark(layer, tall, region, kind, label) {
  const { x, y, width, height } = layer.box(region);
  if (!layer.isReal(region)) return { frames: [], labels: [] };
  const unit = Math.min(layer.down * tall, layer.across), room = Math.min(height * tall, width);
  const share = kind === "reads" || kind === "reader" ? 0.06 : 0.02; // so that a region that reads itself shows both frames
  const inset = Math.min(share * unit, 0.2 * room), below = inset / tall;
  const frame = { x: x + inset, y: y + below, width: width - 2 * inset, height: height - 2 * below };
  const frames = [make("rect", { class: "rim", ...frame }), make("rect", { class: kind, ...frame })];
  if (label === "") return { frames, labels: [] };
  const size = Math.min(0.34 * room, 0.055 * Math.max(layer.w, layer.h * tall));
  const corner = { x: x + 1.6 * inset, y: (y + height) * tall - 1.6 * inset - 1.15 * size };
  const badge = { class: `badge ${kind}`, ...corner, width: size * (0.5 + 0.6 * String(label).length), height: 1.15 * size };
  const text = { class: "rank", x: corner.x + 0.25 * size, y: corner.y + 0.93 * size, "font-size": size };
  return { frames, labels: [make("rect", badge), make("text", text, label)] };
}

/**
 * The number of each region, but of those too narrow for it: the last ones may be cut off.
 * @param {Layer} layer @param {number} tall
 */
function names(layer, tall) {
  const unit = Math.min(layer.down * tall, layer.across), found = [];
  const size = Math.min(0.28 * unit, 0.028 * Math.max(layer.w, layer.h * tall)), gap = 0.1 * unit;
  for (let region = 0; region < layer.regions && layer.regions <= MOST_NUMBERED; region++) {
    const { x, y, width, height } = layer.box(region);
    const fits = gap + 0.65 * size * String(region).length <= width && gap + size <= height * tall;
    const place = { x: x + gap, y: y * tall + gap + 0.8 * size, "font-size": size };
    if (fits) found.push(make("text", { class: "name", ...place }, region));
  }
  return found;
}

/** Heat where the token reads, and a shade over the regions that have no part in it. @param {Elements} view @param {Now} now */
export function drawCover(view, { layer, query, inward, routed, readers, attention, largest }) {
  const lit = new Set(inward ? readers.map(({ region }) => region) : routed).add(query);
  paint(view.cover, layer.w, layer.h, (i) => {
    const dark = lit.has(layer.regionAt(...layer.at(i))) ? 0 : 110;
    if (!attention || !attention[i]) return [0, 0, 0, dark];
    const strength = attention[i] / largest;
    return [...heat(strength), 90 + 130 * strength];
  });
}

/** @param {Elements} view @param {Now} now */
export function drawKeys({ keys, heatSays }, { layer, step, query, inward, largest, truth, partner }) {
  keys.reads.hidden = inward;
  keys.reader.hidden = !inward;
  keys.heat.hidden = !largest;
  if (largest) { // the scale ends at the largest weight, so its end must be told: a nearly even one is bright, too
    heatSays.textContent = ` attention: 0 to ${percent(largest)} (even: ${percent(1 / layer.tokensRead(step, query))})`;
  }
  const framed = partner && layer.isReal(partner.region) ? partner.kind : "";
  for (const kind of truth ? ["should", "asker"] : []) keys[kind].hidden = framed !== kind;
}

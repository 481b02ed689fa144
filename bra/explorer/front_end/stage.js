// What lies over the image: outlines, curves and labels of regions, heat where a token looks, and the legend below.

import { heat, make, paint } from "./canvas.js";
import { drawCurves } from "./curves.js";
import { brightest } from "./now.js";
import { clamp, percent } from "./words.js";

/** @import { Layer } from "./layer.js" */
/** @import { Elements } from "./elements.js" */
/** @import { Now } from "./now.js" */

export const MOST_NUMBERED = 64; // regions on the image and below the bars: more would be too small to read
const NARROWEST = 20; // pixels of a region that is numbered

/** @param {Elements} view @param {Now} now */
export function drawStage(view, now) {
  const { layer, query, token, inward, routed, readers, partner, over } = now, tall = upright(now);
  const frames = [gridLines(layer)], labels = [...drawCurves(now, tall), ...names(now, tall)];
  const add = (/** @type {number} */ region, /** @type {string} */ kind, /** @type {number | string} */ label = "") => {
    const found = mark(now, tall, region, kind, label);
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

/**
 * Of a label, in widths of a token: within an eighth of a region, as far as one can read it.
 * @param {number} room @param {number} pixel
 */
const fontSize = (room, pixel) => Math.min(clamp(0.125 * room - 3 * pixel, 10.5 * pixel, 13 * pixel), 0.3 * room);

/** @param {Now} now @param {number} tall @param {number} region @param {string} kind @param {number | string} label */
function mark({ layer, pixel }, tall, region, kind, label) {
  const { x, y, width, height } = layer.box(region);
  if (!layer.isReal(region)) return { frames: [], labels: [] };
  const room = Math.min(height * tall, width);
  const pixels = kind === "reads" || kind === "reader" ? 6 : 1.5; // so that a region that reads itself shows both frames
  const inset = Math.min(pixels * pixel, 0.2 * room), below = inset / tall;
  const frame = { x: x + inset, y: y + below, width: width - 2 * inset, height: height - 2 * below };
  const frames = [make("rect", { class: "rim", ...frame }), make("rect", { class: kind, ...frame })];
  if (label === "") return { frames, labels: [] };
  const size = fontSize(room, pixel), edge = Math.min(2.5 * pixel, inset); // it lies on the frame
  const corner = { x: x + inset - edge, y: (y + height) * tall - inset + edge - 1.15 * size };
  const badge = { class: `badge ${kind}`, ...corner, width: size * (0.5 + 0.6 * String(label).length), height: 1.15 * size };
  const text = { class: "rank", x: corner.x + 0.25 * size, y: corner.y + 0.93 * size, "font-size": size };
  return { frames, labels: [make("rect", badge), make("text", text, label)] };
}

/**
 * The number of each region, but of those too narrow for it: the last ones may be cut off.
 * @param {Now} now @param {number} tall
 */
function names({ layer, pixel }, tall) {
  const found = [], gap = 4 * pixel;
  for (let region = 0; region < layer.regions && layer.regions <= MOST_NUMBERED; region++) {
    const { x, y, width, height } = layer.box(region), room = Math.min(width, height * tall);
    const size = fontSize(room, pixel), place = { x: x + gap, y: y * tall + gap + 0.8 * size, "font-size": size };
    if (room >= NARROWEST * pixel) found.push(make("text", { class: "name", ...place }, region));
  }
  return found;
}

/** Heat where the token reads, and a shade over the regions that have no part in it. @param {Elements} view @param {Now} now */
export function drawCover(view, now) {
  const { layer, query, inward, routed, readers, attention } = now, most = brightest(now);
  const lit = new Set(inward ? readers.map(({ region }) => region) : routed).add(query);
  paint(view.cover, layer.w, layer.h, (i) => {
    const dark = lit.has(layer.regionAt(...layer.at(i))) ? 0 : 110;
    if (!attention || !attention[i]) return [0, 0, 0, dark];
    const strength = attention[i] / most;
    return [...heat(strength), 90 + 130 * strength];
  });
}

/** @param {Elements} view @param {Now} now */
export function drawKeys({ keys, heatSays }, now) {
  const { layer, step, query, inward, largest, truth, partner } = now;
  keys.reads.hidden = inward;
  keys.reader.hidden = !inward;
  keys.heat.hidden = !largest;
  if (largest) // the scale ends at the largest weight, or beyond: so its end must be told
    heatSays.textContent = ` attention: 0 to ${percent(brightest(now))} (even: ${percent(1 / layer.tokensRead(step, query))})`;
  const framed = partner && layer.isReal(partner.region) ? partner.kind : "";
  for (const kind of truth ? ["should", "asker"] : []) keys[kind].hidden = framed !== kind;
}

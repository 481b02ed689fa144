// Curves over the image, each with a head: from a region to one that it reads, the thicker the more it counts.

import { make } from "./canvas.js";
import { linked } from "./now.js";

/** @import { Box, Layer } from "./layer.js" */
/** @import { Now } from "./now.js" */

/** @typedef {[number, number]} Point */

const LEAVES = 0.66, ARRIVES = 0.8; // of the way from the middle of a region to its border: what lies in it stays free

/**
 * In widths of a token across and down alike.
 * @param {Now} now @param {number} tall height of a token
 */
export function drawCurves(now, tall) {
  const { layer, token, inward, pixel } = now, kind = inward ? "reader" : "reads", found = [];
  const upright = (/** @type {Box} */ { x, y, width, height }) => ({ x, y: y * tall, width, height: height * tall });
  const unit = Math.min(layer.across, layer.down * tall);
  /** @type {Point} */
  const middle = [layer.w / 2, (layer.h * tall) / 2];
  const busy = new Set(inward ? now.readers.map(({ region }) => region) : now.routed).add(now.query);
  for (const { from, to, share } of linked(now)) {
    const width = 1.5 + 4.5 * share, last = upright(layer.box(to));
    if (from === to) { // a ring in its corner
      found.push(...ring(last, middle, unit, kind, width, pixel));
      continue;
    }
    const [row, column] = layer.at(token ?? 0);
    const hidden = (/** @type {Point} */ [x, y]) => { // regions that should stay free
      if (x < 0 || y < 0 || x > layer.w || y > layer.h * tall) return true;
      const region = layer.regionAt(Math.floor(y / tall), Math.floor(x));
      return region !== from && region !== to && busy.has(region);
    };
    const first = upright(token === null ? layer.box(from) : { x: column, y: row, width: 1, height: 1 });
    const bend = control(middleOf(first), middleOf(last), middle, unit, hidden);
    const start = towards(first, bend, LEAVES), tip = towards(last, bend, ARRIVES);
    found.push(...arrow(`M${start.join(" ")}Q${bend.join(" ")}`, bend, tip, kind, width, pixel));
  }
  return found;
}

/**
 * A curve with its head.
 * @param {string} d without its end @param {Point} bend where it comes from @param {Point} tip
 * @param {string} kind @param {number} width in pixels @param {number} pixel
 */
function arrow(d, bend, tip, kind, width, pixel) {
  const [right, down] = direction(bend, tip), length = (5 + 1.6 * width) * pixel, half = 0.55 * length;
  const end = `${tip[0] - 0.8 * length * right} ${tip[1] - 0.8 * length * down}`;
  const corner = (/** @type {number} */ side) =>
    `${tip[0] - length * right - side * half * down} ${tip[1] - length * down + side * half * right}`;
  const head = `M${tip.join(" ")}L${corner(1)}L${corner(-1)}z`;
  return [...stroke(`${d} ${end}`, kind, width), make("path", { class: `head ${kind}`, d: head })];
}

/** @param {string} d @param {string} kind @param {number} width in pixels */
const stroke = (d, kind, width) => [make("path", { class: "casing", d, style: `stroke-width: ${width + 2.5}` }),
  make("path", { class: `curve ${kind}`, d, style: `stroke-width: ${width}` })];

/** @param {Box} box @returns {Point} */
const middleOf = ({ x, y, width, height }) => [x + width / 2, y + height / 2];

/** @param {Point} from @param {Point} to @returns {Point} of length 1 */
function direction([x, y], [to, below]) {
  const length = Math.hypot(to - x, below - y) || 1;
  return [(to - x) / length, (below - y) / length];
}

/**
 * From the middle of a box towards a point, a share of the way to its border.
 * @param {Box} box @param {Point} point @param {number} share @returns {Point}
 */
function towards(box, point, share) {
  const [x, y] = middleOf(box), [right, down] = direction([x, y], point);
  if (!right && !down) return [x, y];
  const reach = share * Math.min(box.width / 2 / Math.abs(right), box.height / 2 / Math.abs(down));
  return [x + reach * right, y + reach * down];
}

/**
 * Where a curve bends to: half a region beside the straight line at its middle, for there it passes between the regions, and
 * not over what lies in them; on the side where it hides less, or else on that of the middle of the image.
 * @param {Point} from @param {Point} to @param {Point} middle @param {number} unit of a region
 * @param {(point: Point) => boolean} hidden @returns {Point}
 */
function control([x, y], [right, below], middle, unit, hidden) {
  const half = [(x + right) / 2, (y + below) / 2], length = Math.hypot(right - x, below - y) || 1;
  const beside = [-(below - y) / length, (right - x) / length];
  const inside = beside[0] * (middle[0] - half[0]) + beside[1] * (middle[1] - half[1]) >= 0 ? 1 : -1;
  const bow = inside * unit * (length > 1.6 * unit ? 1 : 0.3);
  const bends = [bow, -bow].map((far) => /** @type {Point} */ ([half[0] + far * beside[0], half[1] + far * beside[1]]));
  const [near, other] = bends.map(([across, down]) => [0.25, 0.4, 0.5, 0.6, 0.75].filter((t) => {
    const [a, b, c] = [(1 - t) ** 2, 2 * t * (1 - t), t ** 2];
    return hidden([a * x + b * across + c * right, a * y + b * down + c * below]);
  }).length);
  return bends[other < near ? 1 : 0];
}

/**
 * A region that reads itself: out over its upper or lower border, and back; at the right, for its labels are at the left.
 * @param {Box} box @param {Point} middle @param {number} unit @param {string} kind @param {number} width @param {number} pixel
 */
function ring({ x, y, width: across, height }, middle, unit, kind, width, pixel) {
  const up = y + height / 2 > middle[1] ? -1 : 1, border = up < 0 ? y : y + height, right = x + across;
  const [inside, outside] = [border - up * 0.05 * unit, border + up * 0.24 * unit];
  /** @type {Point} */
  const last = [right - 0.02 * unit, outside], tip = [right - 0.08 * unit, inside];
  const d = `M${right - 0.34 * unit} ${inside}C${right - 0.4 * unit} ${outside} ${last.join(" ")}`;
  return arrow(d, last, tip, kind, width, pixel);
}

// This moment: what is chosen, and what follows from it. No element of a page is touched here.

/** @import { Layer, Reader } from "./layer.js" */

/** @typedef {{from: number, to: number}} Pair a region, and one that it may read */

/**
 * @typedef {object} Chosen what is chosen, brought within what there is
 * @property {number} block which of the layers
 * @property {Layer} layer
 * @property {number} step which of the steps
 * @property {number} query the region
 * @property {number | null} token a token in it; null: the region as a whole
 * @property {string} show reads, readers or tokens
 * @property {boolean} inward whether it shows who reads the region, and not whom it reads
 */

/**
 * @typedef {Chosen & {
 *   steps: number[],
 *   truth: [number, number] | null,
 *   head: number,
 *   shape: number,
 *   pixel: number,
 *   line: number,
 *   over: Pair | null,
 *   routed: number[],
 *   readers: Reader[],
 *   partner: {kind: string, region: number} | null,
 *   attention: Float32Array | null,
 *   largest: number,
 *   playing: boolean,
 * }} Now all that a picture of this moment needs. shape: width to height of the image on the page; pixel, line: of the page, in
 * widths of a token, and in units of the row of bars; over: the pair that is pointed at; partner: the region that should be
 * read, or that asks; largest: of the attention
 */

export const MOST_CURVES = 16; // more would hide the image
const EVEN_TIMES = 4; // an even share of attention has a quarter of the scale of colours, not its bright end

/**
 * The region that belongs to the chosen one: what it should read, or what asks for it.
 * @param {[number, number] | null} truth @param {Layer} layer @param {number} query
 */
export function partnerOf(truth, layer, query) {
  if (!truth || Math.max(...truth) >= layer.regions) return null;
  const [asked, answer] = truth;
  return query === asked ? { kind: "should", region: answer } : query === answer ? { kind: "asker", region: asked } : null;
}

/**
 * The pairs that curves join, and how thick each is, 0 to 1, the thickest last: by attention where it is known, else by
 * affinity.
 * @param {Now} now
 */
export function linked({ layer, step, query, inward, routed, readers, attention }) {
  const { low, high } = layer.table(step);
  const share = (/** @type {Pair} */ { from, to }) => {
    if (attention) return within(layer, attention, to);
    return high > low ? Math.max(0, (layer.affinity(step, from, to) - low) / (high - low)) : 0.5;
  };
  const pairs = inward ? readers.map(({ region }) => ({ from: region, to: query }))
    : routed.filter((region) => layer.isReal(region)).map((region) => ({ from: query, to: region }));
  const found = pairs.map((pair) => ({ ...pair, share: share(pair) }));
  return found.sort((a, b) => a.share - b.share).slice(-MOST_CURVES);
}

/** The sum of the attention in one region. @param {Layer} layer @param {Float32Array} attention @param {number} region */
function within(layer, attention, region) {
  return attention.reduce((sum, weight, i) => (layer.regionAt(...layer.at(i)) === region ? sum + weight : sum), 0);
}

/** The attention at the bright end of the scale: the largest, or less bright where it is nearly even. @param {Now} now */
export const brightest = ({ layer, step, query, largest }) =>
  Math.max(largest, Math.min(1, EVEN_TIMES / layer.tokensRead(step, query)));

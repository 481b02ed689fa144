// What a page holds, and one layer of it: whom its regions read, where they lie on the image, where its tokens look.
// No element of a page is touched here: Node can run it.

/**
 * One JSON object holds all that is shown: bra/explorer/payload.py makes it. Numbers that are many are packed: their
 * bytes stand as base64, the lower byte first.
 * @typedef {object} Payload
 * @property {string} title
 * @property {string} question what the network is asked; this and the next two may be empty
 * @property {string} says what it answers
 * @property {string} source where network and image come from
 * @property {string} hint what to try first
 * @property {{height: number, width: number, rgb: string}} image three bytes a pixel, row by row
 * @property {number[]} steps training steps, rising; the views are of the last one
 * @property {[number, number] | null} truth the region that asks, and the one that it should read
 * @property {Record<string, string[]>} columns more columns for the table of layers: a text a layer
 * @property {Packed[]} layers
 */

/**
 * @typedef {object} Packed one layer
 * @property {string} label its name for people
 * @property {[number, number]} grid rows and columns of regions
 * @property {[number, number]} size height and width of the map, in tokens
 * @property {number} heads 0: without token weights
 * @property {15 | 255} levels a token weight is a whole number of 0 to this: half a byte or a byte
 * @property {string} weights (region, token of it, head, gathered token): square roots, each row relative to its largest
 * @property {Routes[]} routes one for each of the steps
 */

/**
 * @typedef {object} Routes whom the regions read after a step
 * @property {number} k how many each reads
 * @property {string} index (regions, k): two bytes each, best first
 * @property {number} low the lowest affinity
 * @property {number} high the highest affinity
 * @property {string} affinity (regions, regions): two bytes each, from low to high; PADDING: -Infinity
 */

/** @typedef {{k: number, index: Uint16Array, codes: Uint16Array, low: number, high: number}} Table */
/** @typedef {{x: number, y: number, width: number, height: number}} Box in tokens */
/** @typedef {{region: number, rank: number}} Reader */

export const PADDING = 65535;

/** @param {string} text */
export const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
/** @param {string} text */
const pairs = (text) => new Uint16Array(bytes(text).buffer);

export class Layer {
  /** @param {Packed} packed */
  constructor(packed) {
    this.packed = packed;
    this.label = packed.label;
    this.heads = packed.heads;
    const [rows, columns] = packed.grid, [h, w] = packed.size;
    this.rows = rows;
    this.columns = columns;
    this.h = h;
    this.w = w;
    this.regions = rows * columns;
    this.down = Math.ceil(h / rows); // tokens of a region; the map is padded below and at the right
    this.across = Math.ceil(w / columns);
    /** @type {Map<number, Table>} */
    this.tables = new Map(); // unpacked when they are first needed
    /** @type {Uint8Array | null} */
    this.weightCodes = null;
  }

  // -- where regions lie: the same as RegionGrid in bra/partition.py --

  /** @param {number} region @returns {[number, number]} row and column of the grid */
  place(region) {
    return [Math.floor(region / this.columns), region % this.columns];
  }

  /** @param {number} region @returns {Box} cut off where the map ends */
  box(region) {
    const [row, column] = this.place(region);
    const x = Math.min(column * this.across, this.w), y = Math.min(row * this.down, this.h);
    return { x, y, width: Math.min(this.across, this.w - x), height: Math.min(this.down, this.h - y) };
  }

  /** @param {number} region whether it holds a token, and not only padding */
  isReal(region) {
    const { width, height } = this.box(region);
    return width > 0 && height > 0;
  }

  /** @param {number} y @param {number} x */
  regionAt(y, x) {
    return Math.floor(y / this.down) * this.columns + Math.floor(x / this.across);
  }

  /** @param {number} token @returns {[number, number]} row and column of the map */
  at(token) {
    return [Math.floor(token / this.w), token % this.w];
  }

  /** @param {number} region @returns {number | null} the token in its middle; null if it is all padding */
  middle(region) {
    const { x, y, width, height } = this.box(region);
    return this.isReal(region) ? (y + Math.floor(height / 2)) * this.w + x + Math.floor(width / 2) : null;
  }

  /** @returns {[number[], number[]]} rows and columns of tokens at which a region ends and the next begins */
  inner() {
    const steps = (/** @type {number} */ n, /** @type {number} */ size, /** @type {number} */ end) =>
      Array.from({ length: n - 1 }, (_, i) => (i + 1) * size).filter((place) => place < end);
    return [steps(this.rows, this.down, this.h), steps(this.columns, this.across, this.w)];
  }

  // -- who reads whom: the same as View in bra/look/views.py --

  /** @param {number} step @returns {Table} */
  table(step) {
    let table = this.tables.get(step);
    if (!table) {
      const { k, index, affinity, low, high } = this.packed.routes[step];
      table = { k, index: pairs(index), codes: pairs(affinity), low, high };
      this.tables.set(step, table);
    }
    return table;
  }

  /** @param {number} step @param {number} region */
  reads(step, region) {
    const { k, index } = this.table(step);
    return [...index.subarray(region * k, (region + 1) * k)];
  }

  /** @param {number} step @param {number} region */
  readers(step, region) {
    const { k, index } = this.table(step);
    /** @type {Reader[]} */
    const found = [];
    for (let i = 0; i < this.regions; i++) {
      const rank = index.subarray(i * k, (i + 1) * k).indexOf(region);
      if (rank >= 0 && this.isReal(i)) found.push({ region: i, rank: rank + 1 });
    }
    return found;
  }

  /** @param {number} step @param {number} from @param {number} to */
  affinity(step, from, to) {
    const { codes, low, high } = this.table(step), code = codes[from * this.regions + to];
    return code === PADDING ? -Infinity : low + ((high - low) * code) / (PADDING - 1);
  }

  /** @param {number} step @param {number} region how many tokens share its attention; padding has none of it */
  tokensRead(step, region) {
    return this.reads(step, region).map((read) => this.box(read)).reduce((sum, box) => sum + box.width * box.height, 0);
  }

  // -- where a token looks --

  /**
   * The weights of one token on the map: of one head, or the mean of all (head -1).
   * @param {number} step @param {number} token @param {number} head
   */
  attention(step, token, head) {
    const codes = (this.weightCodes ??= this.unpack());
    const [y, x] = this.at(token), region = this.regionAt(y, x), read = this.reads(step, region);
    const tokens = this.down * this.across, n = read.length * tokens;
    const place = (y % this.down) * this.across + (x % this.across);
    const map = new Float32Array(this.h * this.w);
    const heads = head < 0 ? [...Array(this.heads).keys()] : [head];
    for (const m of heads) {
      const start = ((region * tokens + place) * this.heads + m) * n;
      let sum = 0;
      for (let i = 0; i < n; i++) sum += codes[start + i] ** 2;
      for (let i = 0; i < n && sum; i++) {
        const [row, column] = this.place(read[Math.floor(i / tokens)]), t = i % tokens;
        const ty = row * this.down + Math.floor(t / this.across), tx = column * this.across + (t % this.across);
        if (ty < this.h && tx < this.w) map[ty * this.w + tx] += codes[start + i] ** 2 / sum / heads.length;
      }
    }
    return map;
  }

  unpack() {
    const packed = bytes(this.packed.weights);
    if (this.packed.levels === 255) return packed;
    const codes = new Uint8Array(2 * packed.length);
    packed.forEach((byte, i) => {
      codes[2 * i] = byte >> 4;
      codes[2 * i + 1] = byte & 15;
    });
    return codes;
  }
}

// The explorer: what is chosen, and all that is drawn of it. What Python may change, too, is kept by the model.

import { HEAT, make, paint } from "./canvas.js";
import { build, showBlocks, showControls } from "./elements.js";
import { bytes, Layer } from "./layer.js";
import { drawCover, drawKeys, drawStage } from "./stage.js";
import { STYLE } from "./style.js";
import { drawMatrix, drawRow } from "./tables.js";
import { clamp, sayPair, sayState } from "./words.js";

/** @import { Payload, Reader } from "./layer.js" */

/** @typedef {{from: number, to: number}} Pair a region, and one that it may read */

/**
 * @typedef {object} Model what anywidget gives, or `mount`
 * @property {(name: string) => any} get
 * @property {(name: string, value: any) => void} set
 * @property {() => void} save_changes
 * @property {(event: string, callback: () => void) => void} on
 * @property {(event: string, callback: () => void) => void} off
 */

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
 *   over: Pair | null,
 *   routed: number[],
 *   readers: Reader[],
 *   partner: {kind: string, region: number} | null,
 *   attention: Float32Array | null,
 *   largest: number,
 * }} Now all that a picture of this moment needs. shape: width to height of the image on the page; over: the pair that is
 * pointed at; partner: the region that should be read, or that asks; largest: of the attention
 */

const WIDEST = 480, TALLEST = 640; // pixels of the image

export class Explorer {
  /** @param {Model} model @param {HTMLElement} el */
  constructor(model, el) {
    this.model = model;
    /** @type {Payload} */
    const payload = (this.payload = model.get("payload"));
    this.layers = payload.layers.map((packed) => new Layer(packed));
    // known to this page alone, not to Python
    this.show = "reads";
    this.head = -1; // all
    /** @type {Pair | null} */
    this.over = null;
    const view = (this.view = build(payload, this.layers));
    const root = el.shadowRoot ?? el.attachShadow({ mode: "open" });
    root.replaceChildren(make("style", {}, STYLE), view.section);
    view.section.style.setProperty("--heat", HEAT.map((colour) => `rgb(${colour})`).join(", "));
    const pixels = bytes(payload.image.rgb), { width, height } = payload.image;
    paint(view.picture, width, height, (i) => [pixels[3 * i], pixels[3 * i + 1], pixels[3 * i + 2], 255]);
    this.shape = clamp(width / height, 1 / 4, 4); // of the stage on the page: a strip would be too thin to read
    view.stage.style.aspectRatio = this.shape;
    view.stage.style.maxWidth = `${clamp(TALLEST * this.shape, TALLEST / 4, WIDEST)}px`;
  }

  // -- this moment --

  /** @returns {Chosen} */
  chosen() {
    const { model, layers, payload } = this;
    const block = clamp(model.get("block"), 0, layers.length - 1), layer = layers[block];
    const step = Math.max(0, payload.steps.indexOf(model.get("step")));
    if (model.get("token") === null) {
      const query = clamp(model.get("query"), 0, layer.regions - 1);
      return { block, layer, step, query, token: null, show: this.show, inward: this.show === "readers" };
    }
    const token = clamp(model.get("token"), 0, layer.h * layer.w - 1);
    return { block, layer, step, query: layer.regionAt(...layer.at(token)), token, show: "tokens", inward: false };
  }

  /** @returns {Now} */
  now() {
    const chosen = this.chosen(), { layer, step, query, token } = chosen, { steps, truth } = this.payload;
    const head = (this.head = Math.min(this.head, layer.heads - 1));
    const weighed = token !== null && step === steps.length - 1 && layer.heads > 0;
    const attention = weighed ? layer.attention(step, token, head) : null;
    return {
      ...chosen, steps, truth, head, shape: this.shape, over: this.over,
      routed: layer.reads(step, query), readers: layer.readers(step, query), partner: partnerOf(truth, layer, query),
      attention, largest: attention?.reduce((a, b) => Math.max(a, b), 0) ?? 0,
    };
  }

  // Each part is drawn from `now` alone, in the order of the page.
  update() {
    const { view } = this, now = this.now();
    showControls(view, now);
    tell(view.status, sayState(now));
    drawStage(view, now);
    drawCover(view, now);
    drawKeys(view, now);
    drawRow(view, now);
    drawMatrix(view, now);
    tell(view.pointer, sayPair(now));
    showBlocks(view, now, this.layers);
  }

  // -- choosing, and pointing at a pair --

  /** @param {Record<string, number | null>} changes */
  share(changes) {
    for (const [name, value] of Object.entries(changes)) this.model.set(name, value);
    this.over = null; // the pair was pointed at beside the region that was chosen before
    this.model.save_changes();
    this.update();
  }

  /** What lies at row y and column x of the map. @param {number} y @param {number} x */
  choose(y, x) {
    const { layer, token } = this.chosen();
    if (token === null) this.chooseRegion(layer.regionAt(y, x));
    else this.share({ query: layer.regionAt(y, x), token: y * layer.w + x });
  }

  /** @param {number} region */
  chooseRegion(region) {
    const { layer, token } = this.chosen();
    if (layer.isReal(region)) this.share({ query: region, token: token === null ? null : layer.middle(region) });
  }

  /** Stay where one looks, on a map of another size too. @param {number} block */
  chooseBlock(block) {
    const { layer: from, query, token } = this.chosen(), to = this.layers[block];
    const [row, column] = from.at(token ?? from.middle(query) ?? 0);
    const y = Math.floor(((row + 0.5) / from.h) * to.h), x = Math.floor(((column + 0.5) / from.w) * to.w);
    const same = from.rows === to.rows && from.columns === to.columns && token === null;
    this.share({ block, query: same ? query : to.regionAt(y, x), token: token === null ? null : y * to.w + x });
  }

  /** @param {string} show */
  chooseShow(show) {
    const { layer, query } = this.chosen();
    this.show = show === "tokens" ? "reads" : show;
    this.share({ token: show === "tokens" ? layer.middle(query) : null });
  }

  /** To the neighbour of the chosen region or token. @param {number[]} direction */
  step([down, right]) {
    const { layer, query, token } = this.chosen();
    if (token !== null) {
      const [y, x] = layer.at(token);
      this.choose(clamp(y + down, 0, layer.h - 1), clamp(x + right, 0, layer.w - 1));
    } else {
      const [row, column] = layer.place(query);
      const to = clamp(row + down, 0, layer.rows - 1) * layer.columns + clamp(column + right, 0, layer.columns - 1);
      this.chooseRegion(to);
    }
  }

  /** @param {Pair | null} over */
  point(over) {
    if (JSON.stringify(over) === JSON.stringify(this.over)) return;
    this.over = over;
    this.update();
  }

  /** Another region with the chosen one: as the one that reads it, or that it reads. @param {number} other @returns {Pair} */
  paired(other) {
    const { query, inward } = this.chosen();
    return inward ? { from: other, to: query } : { from: query, to: other };
  }
}

/**
 * The region that belongs to the chosen one: what it should read, or what asks for it.
 * @param {[number, number] | null} truth @param {Layer} layer @param {number} query
 */
function partnerOf(truth, layer, query) {
  if (!truth || Math.max(...truth) >= layer.regions) return null;
  const [asked, answer] = truth;
  return query === asked ? { kind: "should", region: answer } : query === answer ? { kind: "asker", region: asked } : null;
}

/**
 * Say a sentence, once: a screen reader reads it again each time it is set.
 * @param {Element} element @param {string} sentence
 */
function tell(element, sentence) {
  if (element.textContent !== sentence) element.textContent = sentence;
}

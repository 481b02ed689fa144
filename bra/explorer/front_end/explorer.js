// The explorer: what is chosen, and all that is drawn of it. What Python may change, too, is kept by the model.

import { HEAT, make, paint } from "./canvas.js";
import { showBlocks } from "./blocks.js";
import { build, showControls } from "./elements.js";
import { bytes, Layer } from "./layer.js";
import { partnerOf } from "./now.js";
import { drawCover, drawKeys, drawStage } from "./stage.js";
import { STYLE } from "./style.js";
import { BARS, drawMatrix, drawRow } from "./tables.js";
import { clamp, sayPair, sayState } from "./words.js";

/** @import { Payload } from "./layer.js" */
/** @import { Chosen, Now, Pair } from "./now.js" */

/**
 * @typedef {object} Model what anywidget gives, or `mount`
 * @property {(name: string) => any} get
 * @property {(name: string, value: any) => void} set
 * @property {() => void} save_changes
 * @property {(event: string, callback: () => void) => void} on
 * @property {(event: string, callback: () => void) => void} off
 */

const NARROW = 620; // pixels; explorer.css says how a page below it is laid out

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
    this.playing = false;
    const view = (this.view = build(payload, this.layers));
    const root = el.shadowRoot ?? el.attachShadow({ mode: "open" });
    root.replaceChildren(make("style", {}, STYLE), view.section);
    view.section.style.setProperty("--heat", HEAT.map((colour) => `rgb(${colour})`).join(", "));
    const pixels = bytes(payload.image.rgb), { width, height } = payload.image;
    paint(view.picture, width, height, (i) => [pixels[3 * i], pixels[3 * i + 1], pixels[3 * i + 2], 255]);
    this.shape = clamp(width / height, 1 / 4, 4); // of the stage on the page: a strip would be too thin to read
    view.section.style.setProperty("--shape", String(this.shape));
    this.sizes = { stage: 500, row: 500 }; // widths on the page, in pixels, until it tells them
    this.placed = false;
  }

  /** Labels and curves are as large as they can be read, wherever they are shown: draw anew when the page has another size. */
  measure() {
    const { stage, row } = this.view, { clientWidth: width, clientHeight: height } = stage;
    if (!width || !height) return; // JupyterLab puts it on the page later
    if (!this.placed) this.view.meanings.open = this.view.section.clientWidth >= NARROW; // else above the image: one line
    this.placed = true;
    const shape = width / height; // on a narrow screen the least height may change it
    const same = width === this.sizes.stage && row.clientWidth === this.sizes.row && Math.abs(shape / this.shape - 1) < 0.02;
    if (same) return;
    this.sizes = { stage: width, row: row.clientWidth };
    this.shape = shape;
    this.update();
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
      ...chosen, steps, truth, head, shape: this.shape, over: this.over, playing: this.playing,
      pixel: layer.w / this.sizes.stage, line: (BARS.left + BARS.width) / this.sizes.row,
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
 * Say a sentence, once: a screen reader reads it again each time it is set.
 * @param {Element} element @param {string} sentence
 */
function tell(element, sentence) {
  if (element.textContent !== sentence) element.textContent = sentence;
}

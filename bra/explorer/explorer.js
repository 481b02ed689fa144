// The explorer's front end: whom each region of an image reads, who reads it, and where its tokens look.
//
// One ES module without dependencies. In a notebook anywidget calls `render` with a model that talks to Python; in a
// page `mount` calls it with a model that remembers. Both hold `payload` (bra/page/payload.py) and query, block, token, step.

// ---- the payload: packed numbers become tables, when they are first needed ----

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const pairs = (text) => new Uint16Array(bytes(text).buffer);
const PADDING = 65535;
const WIDEST = 480, TALLEST = 640; // pixels of the image
const MOST_NAMED = 16; // regions in one sentence
const MOST_DOTS = 2500; // in the matrix
const MOST_NUMBERED = 64; // regions on the image and below the bars: more would be too small to read
const BARS = { left: 40, width: 320, top: 14, bottom: 84, height: 98 }; // of the row of bars, in its own units

class Layer {
  constructor(packed) {
    Object.assign(this, packed);
    [this.rows, this.columns] = packed.grid;
    [this.h, this.w] = packed.size;
    this.regions = this.rows * this.columns;
    this.down = Math.ceil(this.h / this.rows); // tokens of a region; the map is padded below and at the right
    this.across = Math.ceil(this.w / this.columns);
    this.tables = new Map();
  }

  table(step) {
    if (!this.tables.has(step)) {
      const { k, index, affinity, low, high } = this.routes[step];
      const levels = pairs(affinity);
      const value = (code) => (code === PADDING ? -Infinity : low + ((high - low) * code) / (PADDING - 1));
      this.tables.set(step, { k, index: pairs(index), levels, value, low, high });
    }
    return this.tables.get(step);
  }

  reads(step, region) {
    const { k, index } = this.table(step);
    return [...index.subarray(region * k, (region + 1) * k)];
  }

  readers(step, region) {
    const { k, index } = this.table(step);
    const found = [];
    for (let i = 0; i < this.regions; i++) {
      const rank = index.subarray(i * k, (i + 1) * k).indexOf(region);
      if (rank >= 0 && this.isReal(i)) found.push({ region: i, rank: rank + 1 });
    }
    return found;
  }

  affinity(step, from, to) {
    const { levels, value } = this.table(step);
    return value(levels[from * this.regions + to]);
  }

  place(region) {
    return [Math.floor(region / this.columns), region % this.columns];
  }

  box(region) { // in tokens, cut off where the map ends
    const [row, column] = this.place(region);
    const x = Math.min(column * this.across, this.w), y = Math.min(row * this.down, this.h);
    return { x, y, width: Math.min(this.across, this.w - x), height: Math.min(this.down, this.h - y) };
  }

  isReal(region) {
    const { width, height } = this.box(region);
    return width > 0 && height > 0;
  }

  regionAt(y, x) {
    return Math.floor(y / this.down) * this.columns + Math.floor(x / this.across);
  }

  middle(region) { // a token
    const { x, y, width, height } = this.box(region);
    return (y + Math.floor(height / 2)) * this.w + x + Math.floor(width / 2);
  }

  tokensRead(step, region) { // among them attention is shared; padding has none of it
    return this.reads(step, region).map((read) => this.box(read)).reduce((sum, { width, height }) => sum + width * height, 0);
  }

  // The weights of one token on the map: of one head, or the mean of all (head -1).
  attention(step, token, head) {
    this.codes ??= this.unpack();
    const [y, x] = [Math.floor(token / this.w), token % this.w];
    const region = this.regionAt(y, x), k = this.routes[step].k;
    const tokens = this.down * this.across, n = k * tokens;
    const place = (y % this.down) * this.across + (x % this.across);
    const map = new Float32Array(this.h * this.w), read = this.reads(step, region);
    const heads = head < 0 ? [...Array(this.heads).keys()] : [head];
    for (const m of heads) {
      const start = ((region * tokens + place) * this.heads + m) * n;
      let sum = 0;
      for (let i = 0; i < n; i++) sum += this.codes[start + i] ** 2;
      for (let i = 0; i < n && sum; i++) {
        const [row, column] = this.place(read[Math.floor(i / tokens)]), t = i % tokens;
        const ty = row * this.down + Math.floor(t / this.across), tx = column * this.across + (t % this.across);
        if (ty < this.h && tx < this.w) map[ty * this.w + tx] += this.codes[start + i] ** 2 / sum / heads.length;
      }
    }
    return map;
  }

  unpack() { // the codes are square roots, each row relative to its largest
    const packed = bytes(this.weights);
    if (this.levels === 255) return packed;
    const codes = new Uint8Array(2 * packed.length);
    packed.forEach((byte, i) => { codes[2 * i] = byte >> 4; codes[2 * i + 1] = byte & 15; });
    return codes;
  }
}

// ---- small tools ----

// Cividis: even steps of lightness, for greyscale and every kind of colour vision.
const HEAT = [[0, 34, 78], [26, 56, 111], [67, 78, 108], [97, 101, 111], [125, 124, 120], [155, 148, 118],
  [188, 174, 108], [222, 201, 88], [254, 232, 56]];

function heat(share) {
  const at = Math.max(0, Math.min(1, share)) * (HEAT.length - 1), i = Math.min(Math.floor(at), HEAT.length - 2);
  return HEAT[i].map((from, c) => from + (HEAT[i + 1][c] - from) * (at - i));
}

function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "rect", "path", "text", "g"].includes(tag);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.map((child) => (typeof child === "number" ? String(child) : child))); // text, never HTML
  return element;
}

function paint(canvas, width, height, colour) { // colour(i) gives red, green, blue, opacity
  [canvas.width, canvas.height] = [width, height];
  const pixels = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) pixels.data.set(colour(i), 4 * i);
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

const number = (value) => (Number.isFinite(value) ? value.toPrecision(4) : "none (padding)");
const ordinal = (n) => n + (["th", "st", "nd", "rd"][n % 100 > 10 && n % 100 < 14 ? 0 : n % 10] ?? "th");
// Two significant digits, but all of those before the point: 4.2, 0.28, 130.
const short = (value) => value.toFixed(value > 0 ? clamp(1 - Math.floor(Math.log10(value)), 0, 9) : 0);
const percent = (share) => `${short(100 * share)}%`;
const plural = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

// ---- the explorer ----

function render({ model, el }) {
  const explorer = new Explorer(model, el);
  explorer.listen();
  const forget = explorer.follow(el);
  explorer.update();
  return forget;
}

class Explorer {
  constructor(model, el) {
    this.model = model;
    const payload = (this.payload = model.get("payload"));
    this.layers = payload.layers.map((packed) => new Layer(packed));
    this.last = payload.steps.length - 1;
    Object.assign(this, { show: "reads", head: -1, over: null, matrixShown: "" }); // what Python knows nothing of
    const view = (this.view = build(payload, this.layers, this.last));
    const root = el.shadowRoot ?? el.attachShadow({ mode: "open" });
    root.replaceChildren(make("style", {}, STYLE), view.section);
    const pixels = bytes(payload.image.rgb), { width, height } = payload.image;
    paint(view.picture, width, height, (i) => [pixels[3 * i], pixels[3 * i + 1], pixels[3 * i + 2], 255]);
    this.shape = clamp(width / height, 1 / 4, 4); // of the stage on the page: a strip would be too thin to read
    view.stage.style.aspectRatio = this.shape;
    view.stage.style.maxWidth = `${clamp(TALLEST * this.shape, TALLEST / 4, WIDEST)}px`;
  }

  // What is chosen. What Python may change, too, is kept by the model.
  now() {
    const { model, layers, payload } = this;
    const block = clamp(model.get("block"), 0, layers.length - 1), layer = layers[block];
    const step = Math.max(0, payload.steps.indexOf(model.get("step")));
    if (model.get("token") === null) {
      const query = clamp(model.get("query"), 0, layer.regions - 1);
      return { block, layer, step, query, token: null, show: this.show, asked: this.show === "readers" };
    }
    const token = clamp(model.get("token"), 0, layer.h * layer.w - 1);
    const query = layer.regionAt(Math.floor(token / layer.w), token % layer.w);
    return { block, layer, step, query, token, show: "tokens", asked: false };
  }

  share(changes) {
    for (const [name, value] of Object.entries(changes)) this.model.set(name, value);
    this.over = null; // its pair was one of the query of before
    this.model.save_changes();
    this.update();
  }

  // -- choosing, and pointing at a pair --

  choose(y, x) {
    const { layer, token } = this.now();
    if (token === null) this.chooseRegion(layer.regionAt(y, x));
    else this.share({ query: layer.regionAt(y, x), token: y * layer.w + x });
  }

  chooseRegion(region) {
    const { layer, token } = this.now();
    if (layer.isReal(region)) this.share({ query: region, token: token === null ? null : layer.middle(region) });
  }

  chooseBlock(block) { // stay where one looks, on a map of another size too
    const { layer: from, query, token } = this.now(), to = this.layers[block];
    const at = token ?? from.middle(query);
    const y = Math.floor(((Math.floor(at / from.w) + 0.5) / from.h) * to.h);
    const x = Math.floor((((at % from.w) + 0.5) / from.w) * to.w);
    const same = from.rows === to.rows && from.columns === to.columns && token === null;
    this.share({ block, query: same ? query : to.regionAt(y, x), token: token === null ? null : y * to.w + x });
  }

  chooseShow(show) {
    const { layer, query } = this.now();
    this.show = show === "tokens" ? "reads" : show;
    this.share({ token: show === "tokens" ? layer.middle(query) : null });
  }

  step([down, right]) { // to the neighbour of the chosen region or token
    const { layer, query, token } = this.now();
    if (token !== null) {
      const [y, x] = [Math.floor(token / layer.w) + down, (token % layer.w) + right];
      this.choose(clamp(y, 0, layer.h - 1), clamp(x, 0, layer.w - 1));
    } else {
      const [row, column] = layer.place(query);
      this.chooseRegion(clamp(row + down, 0, layer.rows - 1) * layer.columns + clamp(column + right, 0, layer.columns - 1));
    }
  }

  point(over) {
    if (JSON.stringify(over) === JSON.stringify(this.over)) return;
    this.over = over;
    this.update();
  }

  paired(other) { // with the chosen region: as the one that reads it, or that it reads
    const { query, asked } = this.now();
    return asked ? { from: other, to: query } : { from: query, to: other };
  }

  // -- listening --

  listen() {
    const { view } = this;
    view.block.addEventListener("change", () => this.chooseBlock(Number(view.block.value)));
    view.step.addEventListener("input", () => this.share({ step: this.payload.steps[view.step.value] }));
    view.head.addEventListener("change", () => { this.head = Number(view.head.value); this.update(); });
    for (const choice of view.shows) choice.addEventListener("change", () => this.chooseShow(choice.value));
    view.buttons.forEach((button, block) => button.addEventListener("click", () => this.chooseBlock(block)));
    this.listenToStage();
    this.listenToRow();
    this.listenToMatrix();
    for (const element of [view.stage, view.row, view.matrix]) {
      element.addEventListener("pointerleave", () => this.point(null));
      element.addEventListener("blur", () => this.point(null));
    }
  }

  listenToStage() { // mouse, touch, arrow keys
    const { stage } = this.view;
    const under = (event) => {
      const { layer } = this.now();
      return [along(event, stage, layer.h, true), along(event, stage, layer.w)];
    };
    stage.addEventListener("click", (event) => this.choose(...under(event)));
    stage.addEventListener("pointermove", (event) => {
      const [y, x] = under(event);
      if (event.pointerType === "mouse" && event.buttons & 1) this.choose(y, x);
      else this.point(this.paired(this.now().layer.regionAt(y, x)));
    });
    stage.addEventListener("keydown", (event) => {
      if (!ARROWS[event.key]) return;
      take(event);
      this.step(ARROWS[event.key]);
    });
  }

  listenToRow() {
    const { row, bars } = this.view;
    const other = (pair) => (this.now().asked ? pair.from : pair.to);
    const under = (event) => { // right of the ends of the scale
      const { left, right } = bars.getBoundingClientRect(), { regions } = this.now().layer;
      const at = ((event.clientX - left) / (right - left)) * (BARS.left + BARS.width) - BARS.left;
      return this.paired(clamp(Math.floor((at / BARS.width) * regions), 0, regions - 1));
    };
    const move = (pair, [down, right]) => this.paired(clamp(other(pair) + right + down, 0, this.now().layer.regions - 1));
    this.listenToPairs(row, under, move, other);
  }

  listenToMatrix() {
    const { matrix } = this.view;
    const under = (event) => {
      const { regions } = this.now().layer;
      return { from: along(event, matrix, regions, true), to: along(event, matrix, regions) };
    };
    const move = ({ from, to }, [down, right]) => {
      const { regions } = this.now().layer;
      return { from: clamp(from + down, 0, regions - 1), to: clamp(to + right, 0, regions - 1) };
    };
    this.listenToPairs(matrix, under, move, (pair) => pair.from);
  }

  // Row and matrix alike: pointing shows a pair, choosing makes one of it the query.
  listenToPairs(element, under, move, chosen) {
    element.addEventListener("pointermove", (event) => this.point(under(event)));
    element.addEventListener("click", (event) => {
      const pair = under(event);
      this.chooseRegion(chosen(pair));
      this.point(pair);
    });
    element.addEventListener("keydown", (event) => {
      const { query } = this.now(), pair = this.over ?? { from: query, to: query };
      if (event.key === "Enter" || event.key === " ") this.chooseRegion(chosen(pair));
      else if (ARROWS[event.key]) this.point(move(pair, ARROWS[event.key]));
      else return;
      take(event);
    });
  }

  // Follow Python and the page until one calls what is returned. Text is dark on light or light on dark, as the page
  // has it; controls must follow.
  follow(el) {
    const { model, view } = this;
    const look = () => {
      if (!el.isConnected) return; // JupyterLab puts it on the page later, which changes its size
      const [r, g, b] = getComputedStyle(el).color.match(/[\d.]+/g).map(Number);
      view.section.style.colorScheme = 0.3 * r + 0.6 * g + 0.1 * b > 128 ? "dark" : "light";
      const shape = view.stage.clientWidth / view.stage.clientHeight; // on a narrow screen the least height may change it
      if (shape > 0 && Math.abs(shape / this.shape - 1) > 0.02) { this.shape = shape; this.update(); }
    };
    const theme = new MutationObserver(look), placed = new ResizeObserver(look);
    const prefers = matchMedia("(prefers-color-scheme: dark)");
    placed.observe(el);
    for (const element of [document.documentElement, document.body]) theme.observe(element, { attributes: true });
    prefers.addEventListener("change", look);
    look();
    const names = ["query", "block", "token", "step"].map((name) => `change:${name}`), update = () => this.update();
    for (const name of names) model.on(name, update);
    return () => {
      for (const name of names) model.off(name, update);
      theme.disconnect();
      placed.disconnect();
      prefers.removeEventListener("change", look);
    };
  }

  // -- drawing --

  update() {
    const now = this.now();
    now.routed = now.layer.reads(now.step, now.query);
    now.readers = now.layer.readers(now.step, now.query);
    const weighed = now.token !== null && now.step === this.last && now.layer.heads;
    this.showControls(now); // it may change the head
    now.attention = weighed ? now.layer.attention(now.step, now.token, this.head) : null;
    now.largest = now.attention?.reduce((a, b) => Math.max(a, b), 0);
    now.framed = this.drawStage(now);
    this.drawCover(now);
    this.drawRow(now);
    this.drawMatrix(now);
    this.tellKeys(now);
    this.tellState(now);
    this.tellPair(now);
    this.tellBlocks(now);
  }

  showControls({ block, layer, step, show }) {
    const { view, payload } = this;
    view.block.value = block;
    view.step.value = step;
    view.step.setAttribute("aria-valuetext", payload.steps[step]);
    view.stepNow.textContent = payload.steps[step];
    for (const choice of view.shows) choice.checked = choice.value === show;
    view.headLabel.hidden = show !== "tokens" || !layer.heads;
    if (view.head.options.length !== layer.heads + 1) {
      const heads = Array.from({ length: layer.heads }, (_, m) => make("option", { value: m }, m));
      view.head.replaceChildren(make("option", { value: -1 }, "all (mean)"), ...heads);
      this.head = Math.min(this.head, layer.heads - 1);
      view.head.value = this.head;
    }
    view.stage.setAttribute("aria-label", `The image. Arrow keys choose a ${show === "tokens" ? "token" : "region"}.`);
  }

  // The outlines and labels over the image. Returns the kind of the frame of what belongs to the query, if it has one.
  drawStage({ layer, query, token, asked, routed, readers }) {
    const { overlay } = this.view;
    overlay.setAttribute("viewBox", `0 0 ${layer.w} ${layer.h}`);
    const frames = [gridLines(layer)], labels = this.names(layer);
    const add = (region, kind, label) => {
      const found = this.mark(layer, region, kind, label);
      frames.push(...found.frames);
      labels.push(...found.labels);
      return found.frames.length > 0;
    };
    if (asked) for (const { region, rank } of readers) add(region, "reader", rank);
    else routed.forEach((region, i) => add(region, "reads", i + 1));
    const { kind, region: other } = this.belongs(layer, query);
    const framed = kind && add(other, kind) ? kind : "";
    add(query, "asks");
    if (token !== null) {
      const spot = { x: token % layer.w, y: Math.floor(token / layer.w), width: 1, height: 1 };
      frames.push(make("rect", { class: "rim", ...spot }), make("rect", { class: "token", ...spot }));
    }
    const pair = this.over ? new Set([this.over.from, this.over.to]) : [];
    for (const region of pair) if (region !== query) add(region, "over");
    overlay.replaceChildren(...frames, make("g", { transform: `scale(1 ${1 / this.upright(layer)})` }, ...labels));
    return framed;
  }

  // The region that belongs to this one: what it should read, or what should read it.
  belongs(layer, query) {
    const [asked, answer] = this.payload.truth ?? [];
    if (!this.payload.truth || Math.max(asked, answer) >= layer.regions) return {};
    return query === asked ? { kind: "should", region: answer } : query === answer ? { kind: "asker", region: asked } : {};
  }

  // Outlines are in tokens, which need not be square on the screen: the height of one in widths of one. Labels stand in a
  // group that makes up for it.
  upright(layer) {
    return layer.w / layer.h / this.shape;
  }

  mark(layer, region, kind, label = "") {
    const { x, y, width, height } = layer.box(region), tall = this.upright(layer);
    if (!(width > 0 && height > 0)) return { frames: [], labels: [] };
    const unit = Math.min(layer.down * tall, layer.across), room = Math.min(height * tall, width);
    const inset = Math.min(kind === "reads" || kind === "reader" ? 0.06 * unit : 0.02 * unit, 0.2 * room), below = inset / tall;
    const frame = { x: x + inset, y: y + below, width: width - 2 * inset, height: height - 2 * below };
    const frames = [make("rect", { class: "rim", ...frame }), make("rect", { class: kind, ...frame })];
    if (label === "") return { frames, labels: [] };
    const size = Math.min(0.34 * room, 0.055 * Math.max(layer.w, layer.h * tall));
    const corner = { x: x + 1.6 * inset, y: (y + height) * tall - 1.6 * inset - 1.15 * size };
    const badge = { class: `badge ${kind}`, ...corner, width: size * (0.5 + 0.6 * String(label).length), height: 1.15 * size };
    const text = { class: "rank", x: corner.x + 0.25 * size, y: corner.y + 0.93 * size, "font-size": size };
    return { frames, labels: [make("rect", badge), make("text", text, label)] };
  }

  names(layer) { // the number of each region, but of those too narrow for it: the last ones may be cut off
    const tall = this.upright(layer), unit = Math.min(layer.down * tall, layer.across), found = [];
    const size = Math.min(0.28 * unit, 0.028 * Math.max(layer.w, layer.h * tall)), gap = 0.1 * unit;
    for (let region = 0; region < layer.regions && layer.regions <= MOST_NUMBERED; region++) {
      const { x, y, width, height } = layer.box(region);
      const fits = gap + 0.65 * size * String(region).length <= width && gap + size <= height * tall;
      const place = { x: x + gap, y: y * tall + gap + 0.8 * size, "font-size": size };
      if (fits) found.push(make("text", { class: "name", ...place }, region));
    }
    return found;
  }

  // Heat where the token reads, and a shade over the regions that have no part in it.
  drawCover({ layer, query, asked, routed, readers, attention, largest }) {
    const lit = new Set(asked ? readers.map(({ region }) => region) : routed).add(query);
    paint(this.view.cover, layer.w, layer.h, (i) => {
      const dark = lit.has(layer.regionAt(Math.floor(i / layer.w), i % layer.w)) ? 0 : 110;
      if (!attention || !attention[i]) return [0, 0, 0, dark];
      const strength = largest ? attention[i] / largest : 0;
      return [...heat(strength), 90 + 130 * strength];
    });
  }

  // The bars of the chosen region: of its row of the matrix or, if one asks who reads it, of its column.
  drawRow({ layer, step, query, asked, routed, readers }) {
    const ranks = new Map(asked ? readers.map(({ region, rank }) => [region, rank]) : routed.map((region, i) => [region, i + 1]));
    const value = (j) => (!asked ? layer.affinity(step, query, j) : layer.isReal(j) ? layer.affinity(step, j, query) : -Infinity);
    const { low, high } = layer.table(step), spans = low <= 0 && high >= 0, base = spans ? 0 : low;
    const unit = high > low ? (BARS.bottom - BARS.top) / (high - low) : 0, line = BARS.bottom - (base - low) * unit;
    const width = BARS.width / layer.regions, many = layer.regions > MOST_NUMBERED; // too narrow for outlines and numbers
    const size = Math.min(11, Math.max(6, 1.1 * width)), above = [];
    let rest = "", found = "";
    for (let j = 0; j < layer.regions; j++) {
      const height = Number.isFinite(value(j)) ? (value(j) - base) * unit : 0;
      const bar = `M${j * width} ${line}v${-height}h${0.86 * width}v${height}z`;
      if (!ranks.has(j)) { rest += bar; continue; }
      found += bar;
      const x = (j + 0.43) * width, y = line - Math.max(0, height) - 3;
      above.push(many ? make("path", { class: "peak", d: `M${x} ${y + 1}l-2.5 -5h5z` })
        : make("text", { x, y, class: "tick", "font-size": size }, ranks.get(j)));
    }
    const [chosen, other] = asked ? [this.over?.to, this.over?.from] : [this.over?.from, this.over?.to];
    const over = chosen === query ? [make("rect", { class: "over", x: other * width, y: 0.5, width, height: BARS.bottom + 1 })] : [];
    this.view.bars.replaceChildren(make("path", { class: "rest", d: rest }),
      make("path", { class: `read ${asked ? "reader" : "reads"}${many ? " many" : ""}`, d: found }),
      make("path", { class: "zero", d: `M0 ${line}H${BARS.width}` }), ...above, ...scale(layer, low, high, spans ? line : null), ...over);
    this.view.rowSays.textContent = asked
      ? "How much every region wants to read the chosen one, numbered row by row; above those who do, their rank for it."
      : "Affinity of the chosen region to every region, numbered row by row; above those it reads, their rank.";
  }

  drawMatrix({ block, layer, step, query, asked }) {
    const { view } = this, { k } = layer.table(step), r = layer.regions;
    view.links.setAttribute("viewBox", `0 0 ${r} ${r}`);
    if (this.matrixShown !== `${block} ${step}`) { // it changes with the block and the step only
      this.matrixShown = `${block} ${step}`;
      this.drawCells(layer, step);
    }
    const gap = 0.01 * r; // the frame lies around its row, or, if one asks who reads it, its column: it would hide it
    const row = { x: -gap, y: query - gap, width: r + 2 * gap, height: 1 + 2 * gap };
    const column = { x: row.y, y: row.x, width: row.height, height: row.width };
    const line = asked ? column : row;
    const marks = [view.dots, make("rect", { class: "rim", ...line }), make("rect", { class: "asks", ...line })];
    if (r * k > MOST_DOTS) { // then only those of the query
      marks.push(make("path", { class: "dots", d: layer.reads(step, query).map((j) => `M${j} ${query}h1v1h-1z`).join("") }));
    }
    if (this.over) {
      const cell = { x: this.over.to, y: this.over.from, width: 1, height: 1 };
      const cross = `M${cell.x + 0.5} 0V${r}M0 ${cell.y + 0.5}H${r}`;
      marks.push(make("path", { class: "over", d: cross }), make("rect", { class: "over", ...cell }));
    }
    view.links.replaceChildren(...marks);
  }

  drawCells(layer, step) {
    const { levels, k, index } = layer.table(step), r = layer.regions;
    const padding = Array.from({ length: r }, (_, i) => !layer.isReal(i)); // reads nobody, and nobody reads it
    const isGrey = (i) => levels[i] === PADDING || padding[Math.floor(i / r)];
    paint(this.view.cells, r, r, (i) => (isGrey(i) ? [128, 128, 128, 60] : [...heat(levels[i] / (PADDING - 1)), 255]));
    let dots = "";
    for (let n = 0; n < r * k && r * k <= MOST_DOTS; n++) {
      const i = Math.floor(n / k);
      if (!padding[i]) dots += `M${index[n] + 0.32} ${i + 0.32}h.36v.36h-.36z`;
    }
    this.view.dots = make("path", { class: "dots", d: dots });
  }

  // -- telling --

  tellKeys({ layer, step, query, asked, largest, framed }) {
    const { keys, heatSays, padding } = this.view;
    keys.reads.hidden = asked;
    keys.reader.hidden = !asked;
    keys.heat.hidden = !largest;
    if (largest) { // the scale ends at the largest weight, so its end must be told: a nearly even one is bright, too
      heatSays.textContent = ` attention: 0 to ${percent(largest)} (even: ${percent(1 / layer.tokensRead(step, query))})`;
    }
    for (const kind of this.payload.truth ? ["should", "asker"] : []) keys[kind].hidden = framed !== kind;
    padding.hidden = layer.isReal(layer.regions - 1);
  }

  tellState(now) {
    const { layer, step, token, asked } = now, { last, payload, view } = this;
    const text = token !== null ? this.sayToken(now) : asked ? sayReaders(now) : `${where(now)} reads ${now.routed.join(", ")}`;
    const sentence = `${layer.label}${last ? `, step ${payload.steps[step]}` : ""}: ${text}${this.sayTruth(now)}.`;
    if (view.status.textContent !== sentence) view.status.textContent = sentence;
  }

  sayToken(now) {
    const { layer, step, query, token, attention, largest } = now;
    const at = `token (row ${Math.floor(token / layer.w)}, column ${token % layer.w}) of ${where(now)}`;
    if (!attention && step !== this.last) return `${at}: token weights are stored for the last step only, ${this.payload.steps[this.last]}`;
    if (!attention) return `${at}: the token weights of this layer were not asked for, or are too many to store`;
    if (!largest) return `${at} reads nothing but padding`;
    const best = attention.indexOf(largest), [y, x] = [Math.floor(best / layer.w), best % layer.w];
    const head = this.head < 0 ? "on average over its heads" : `in head ${this.head}`;
    const about = layer.levels === 255 ? "" : "about ", n = layer.tokensRead(step, query);
    return `${at} reads most, ${head}, of the token (row ${y}, column ${x}) of region ${layer.regionAt(y, x)}: `
      + `${about}${percent(largest)} of its attention, ${short(largest * n)} times an even share (1/${n})`;
  }

  sayTruth({ layer, step, query }) {
    const { kind } = this.belongs(layer, query);
    if (!kind) return "";
    const [asked, answer] = this.payload.truth, rank = layer.reads(step, asked).indexOf(answer) + 1;
    const said = kind === "should" ? `. It should read ${answer}` : `. Region ${asked}, which asks, should read it`;
    return said + (rank ? `: a hit, its ${ordinal(rank)} choice` : ": a miss");
  }

  tellPair({ layer, step }) {
    const { from, to } = this.over ?? {}, { pointer } = this.view;
    let said = "";
    if (this.over && from < layer.regions && to < layer.regions) {
      const rank = layer.reads(step, from).indexOf(to) + 1;
      said = `Affinity of region ${from} to region ${to}: ${number(layer.affinity(step, from, to))}, `
        + (rank ? `its ${ordinal(rank)} choice.` : "not read.");
    }
    if (pointer.textContent !== said) pointer.textContent = said;
  }

  tellBlocks({ block, step }) {
    const { view, layers, payload } = this;
    view.buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(i === block)));
    if (!payload.truth) return;
    const [asked, answer] = payload.truth;
    layers.forEach((layer, i) => {
      const hit = (from, to) => {
        if (Math.max(from, to) >= layer.regions) return "another grid";
        const rank = layer.reads(step, from).indexOf(to) + 1;
        return rank ? `hit (${ordinal(rank)} choice)` : "miss";
      };
      view.hits[i][0].textContent = hit(asked, answer);
      view.hits[i][1].textContent = hit(answer, asked);
    });
  }
}

// ---- what needs no explorer ----

function take(event) { // or the page would scroll, and a notebook would go to the next cell
  event.preventDefault();
  event.stopPropagation();
}

function along(event, element, count, vertical = false) { // in which of `count` equal parts of the element
  const box = element.getBoundingClientRect();
  const share = vertical ? (event.clientY - box.top) / box.height : (event.clientX - box.left) / box.width;
  return clamp(Math.floor(share * count), 0, count - 1);
}

function gridLines(layer) {
  let lines = "";
  for (let row = 1; row < layer.rows && row * layer.down < layer.h; row++) lines += `M0 ${row * layer.down}H${layer.w}`;
  for (let column = 1; column < layer.columns && column * layer.across < layer.w; column++) {
    lines += `M${column * layer.across} 0V${layer.h}`;
  }
  return make("path", { class: "lines", d: lines });
}

// What stands around the bars: at the left the ends of the scale, below the numbers of regions.
function scale(layer, low, high, zero) {
  const text = (name, x, y, says) => make("text", { class: name, x, y, "font-size": 9 }, says);
  const ends = low < high ? [[BARS.top, high], [BARS.bottom, low]] : [[BARS.bottom, low]];
  const crowded = (y) => ends.some(([end]) => Math.abs(end - y) < 10);
  if (zero !== null && !crowded(zero)) ends.push([zero, 0]);
  const perRow = layer.rows > 2 && layer.rows <= 10 ? layer.columns : 7; // each row's first
  const every = layer.regions <= 16 ? 1 : perRow;
  const numbered = [...Array(layer.regions).keys()].filter((j) => j % every === 0 && layer.regions <= MOST_NUMBERED);
  return [...ends.map(([y, end]) => text("end", -4, y + 3, Number(end.toPrecision(3)))),
    ...numbered.map((j) => text("tick place", ((j + 0.43) * BARS.width) / layer.regions, BARS.bottom + 12, j))];
}

function where({ layer, query }) {
  const [row, column] = layer.place(query);
  return `region ${query} (row ${row}, column ${column})`;
}

function sayReaders(now) {
  const { readers } = now;
  const named = readers.slice(0, MOST_NAMED).map(({ region, rank }) => `${region} (${ordinal(rank)} choice)`).join(", ");
  const more = readers.length > MOST_NAMED ? ` and ${readers.length - MOST_NAMED} more` : "";
  const all = readers.length ? `${plural(readers.length, "region")}: ${named}${more}` : "nobody";
  return `${where(now)} is read by ${all}`;
}

// ---- the elements, once ----

function build(payload, layers, last) {
  const view = {};
  const keep = (name, element) => (view[name] = element);
  const label = (text, control) => make("label", {}, `${text} `, control);
  const choice = (value, text) => {
    const radio = make("input", { type: "radio", name: "show", value });
    (view.shows ??= []).push(radio);
    return make("label", {}, radio, ` ${text}`);
  };
  const stages = new Map(); // blocks whose label begins with one stage stand together
  layers.forEach((layer, i) => {
    const stage = layer.label.match(/^(stage \d+), /)?.[1] ?? "";
    stages.set(stage, [...(stages.get(stage) ?? []), make("option", { value: i }, layer.label)]);
  });
  const options = [...stages].flatMap(([stage, found]) => (stage ? [make("optgroup", { label: stage }, ...found)] : found));
  keep("step", make("input", { type: "range", min: 0, max: last, value: last }));
  const step = make("div", { class: "steps" }, label("Training step", view.step),
    keep("stepNow", make("span", { class: "now" }, payload.steps[last])));
  step.hidden = last === 0;
  const controls = make("div", { class: "controls" },
    label("Block", keep("block", make("select", {}, ...options))),
    make("div", { role: "radiogroup", "aria-label": "Show" }, "Show ",
      choice("reads", "whom it reads"), choice("readers", "who reads it"), choice("tokens", "one token's attention")),
    keep("headLabel", label("Head", keep("head", make("select")))), step);

  keep("stage", make("div", { class: "stage", tabindex: 0, role: "application", "aria-roledescription": "image with regions" },
    keep("picture", make("canvas")), keep("cover", make("canvas")),
    keep("overlay", make("svg", { preserveAspectRatio: "none", "aria-hidden": "true" }))));
  const part = (name, says) => ({ class: name, tabindex: 0, role: "application", "aria-label": says });
  keep("row", make("div", part("row", "Affinity row. Left and right point at a region, Enter chooses it."),
    keep("bars", make("svg", { viewBox: `${-BARS.left} 0 ${BARS.left + BARS.width} ${BARS.height}`, "aria-hidden": "true" }))));
  keep("matrix", make("div", part("matrix", "Affinity matrix. Arrow keys point at a pair, Enter chooses its reader."),
    keep("cells", make("canvas")), keep("links", make("svg", { "aria-hidden": "true" }))));
  view.keys = {};
  const key = (kind, text) => {
    const frame = { x: 3, y: 3, width: 22, height: 12 };
    const drawn = [make("rect", { class: "rim", ...frame }), make("rect", { class: kind, ...frame })];
    const sample = make("svg", { viewBox: "0 0 28 18", "aria-hidden": "true" }, ...drawn);
    return (view.keys[kind] = make("span", { class: "key" }, sample, ` ${text}`));
  };
  view.keys.heat = make("span", { class: "key" }, make("i"), keep("heatSays", make("span")));
  const figure = (caption, ...children) => make("figure", {}, ...children, make("figcaption", {}, ...caption));
  const truth = payload.truth ? [key("should", "the right answer"), key("asker", "asks for it")] : [];
  const panels = make("div", { class: "panels" },
    figure([key("asks", "chosen"), key("reads", "it reads, by rank"), key("reader", "reads it, at which rank"), ...truth,
      view.keys.heat], view.stage),
    make("div", {}, figure([keep("rowSays", make("span"))], view.row),
      figure(["Affinity of every region (down) to every region (across), brighter is higher; dots: read.",
        keep("padding", make("span", {}, " Grey: regions of nothing but padding."))], view.matrix)));

  const names = Object.keys(payload.columns);
  const hits = payload.truth ? ["asking region reads the right one, this image", "right one reads the asking one, this image"] : [];
  const when = last ? `, after step ${payload.steps[last]}` : ""; // unlike `hits`, which follow the slider
  const heads = ["block", "regions", "each reads", ...hits, ...names.map((name) => name + when)];
  const head = make("tr", {}, ...heads.map((name) => make("th", { scope: "col" }, name)));
  view.buttons = layers.map((layer) => make("button", { type: "button" }, layer.label));
  view.hits = layers.map(() => hits.map(() => make("td")));
  const rows = layers.map((layer, i) => make("tr", {}, make("th", { scope: "row" }, view.buttons[i]),
    make("td", {}, `${layer.rows} x ${layer.columns}`), make("td", {}, layer.routes[last].k), ...view.hits[i],
    ...names.map((name) => make("td", {}, payload.columns[name][i]))));
  const scroll = make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Every block" },
    make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)));
  const table = make("details", { open: "" }, make("summary", {}, "Every block"), scroll);
  const keys = make("details", {}, make("summary", {}, "Keys"), make("p", {},
    "Tab goes from part to part. On the image, arrow keys choose a region, or a token. "
    + "On the affinity row and matrix they point at a pair, and Enter chooses its reader (on the row: the region pointed at)."));
  const title = payload.title ? [make("h3", {}, payload.title)] : [];
  keep("section", make("section", { class: "explorer", "aria-label": payload.title || "Explorer" }, ...title, controls,
    keep("status", make("p", { class: "status", role: "status", "aria-live": "polite" })), panels,
    keep("pointer", make("p", { class: "pointer", "aria-live": "polite" })), table, keys));
  return view;
}

const STYLE = `
.explorer { font: inherit; font-size: 0.95em; line-height: 1.4; color: inherit; }
.explorer [hidden] { display: none; }
h3 { font-size: 1.1em; margin: 0 0 0.5em; overflow-wrap: anywhere; }
.controls { display: flex; flex-wrap: wrap; gap: 0.4em 1.2em; align-items: center; }
[role="radiogroup"] { display: flex; flex-wrap: wrap; gap: 0 0.9em; }
select, button { font: inherit; max-width: 100%; }
select, button, input { color: inherit; }
.steps { display: flex; gap: 0.6em; align-items: center; }
.now { min-width: 4ch; font-variant-numeric: tabular-nums; }
.status { margin: 0.5em 0; min-height: 2.8em; font-weight: 600; }
.pointer { margin: 0.3em 0; min-height: 1.4em; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 260px), 1fr)); gap: 1em; align-items: start; }
figure { margin: 0 0 0.8em; }
figcaption { font-size: 0.85em; margin-top: 0.3em; }
.stage, .matrix { position: relative; width: 100%; touch-action: manipulation; cursor: pointer; }
.stage { min-height: 120px; }
.matrix { max-width: 280px; aspect-ratio: 1; }
.row { max-width: 480px; cursor: pointer; touch-action: manipulation; }
.row svg { display: block; width: 100%; }
.stage > *, .matrix > * { position: absolute; inset: 0; width: 100%; height: 100%; image-rendering: pixelated; }
.stage svg, .matrix svg { overflow: visible; }
:focus-visible { outline: 3px solid currentColor; outline-offset: 3px; }
rect, path { vector-effect: non-scaling-stroke; fill: none; }
.lines { stroke: #888; stroke-width: 1; stroke-opacity: 0.7; }
.rim { stroke: #000; stroke-width: 5; }
.asks { stroke: #fff; stroke-width: 2.5; stroke-dasharray: 2 3; }
.reads { --kind: #56b4e9; stroke: var(--kind); stroke-width: 2.5; stroke-dasharray: 7 4; }
.reader { --kind: #cc79a7; stroke: var(--kind); stroke-width: 2.5; stroke-dasharray: 9 3 2 3; }
.should { stroke: #d55e00; stroke-width: 3; }
.asker { stroke: #f0e442; stroke-width: 3; stroke-dasharray: 16 4; }
.token { stroke: #fff; stroke-width: 2; }
.over { stroke: #e69f00; stroke-width: 1.5; }
.badge { stroke: #000; stroke-width: 1; stroke-dasharray: none; fill: #fff; }
.rank { fill: #000; font-weight: 700; font-family: system-ui, sans-serif; }
.name { fill: #fff; stroke: #000; stroke-width: 2.5; paint-order: stroke; vector-effect: non-scaling-stroke;
  font-family: system-ui, sans-serif; }
.tick, .end { fill: currentColor; text-anchor: middle; font-family: system-ui, sans-serif; }
.end { text-anchor: end; }
.rest { fill: currentColor; fill-opacity: 0.45; }
.read { stroke: currentColor; stroke-width: 1.2; stroke-dasharray: none; fill: var(--kind); }
.read.many { stroke: none; }
.peak { fill: currentColor; }
.zero { stroke: currentColor; stroke-width: 1; }
.dots { fill: #fff; stroke: #000; stroke-width: 0.7; }
.key { margin-right: 1em; white-space: nowrap; }
.key svg { width: 28px; height: 18px; vertical-align: -4px; background: #555; }
.key i { display: inline-block; width: 4em; height: 0.9em; vertical-align: -0.1em; forced-color-adjust: none;
  background: linear-gradient(to right, HEAT); }
.scroll { max-height: 16em; overflow: auto; background: linear-gradient(to right, Canvas 1.2em, transparent 2em) local,
  linear-gradient(to left, Canvas 1.2em, transparent 2em) local, linear-gradient(to right, SHADOW) left / 1.2em 100% no-repeat scroll,
  linear-gradient(to left, SHADOW) right / 1.2em 100% no-repeat scroll; }
table { border-collapse: collapse; font-size: 0.9em; }
th, td { padding: 0.15em 0.7em; text-align: left; border-bottom: 1px solid color-mix(in srgb, currentColor 25%, transparent); }
thead th { position: sticky; top: 0; min-width: 5em; vertical-align: bottom; background: Canvas; }
tbody th { font-weight: normal; white-space: nowrap; }
button[aria-pressed="true"] { font-weight: 700; text-decoration: underline; }
summary { cursor: pointer; }
`.replaceAll("SHADOW", "color-mix(in srgb, CanvasText 55%, transparent), transparent")
  .replace("HEAT", HEAT.map((colour) => `rgb(${colour})`).join(", "));

// ---- where there is no Python: a model that remembers ----

function mount(name, state) {
  for (const el of document.querySelectorAll(`[data-explorer="${name}"]`)) {
    if (el.shadowRoot) continue; // the same explorer may stand on a page twice
    const kept = { ...state };
    render({ model: { get: (key) => kept[key], set: (key, value) => { kept[key] = value; }, save_changes() {}, on() {}, off() {} }, el });
  }
}

export default { render };

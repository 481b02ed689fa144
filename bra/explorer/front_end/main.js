// The two ways in. In a notebook anywidget calls `render` with a model that talks to Python; in a page `mount` calls it
// with a model that remembers. Both hold the payload, and query, block, token and step.

import { Explorer } from "./explorer.js";
import { follow, listen } from "./listen.js";

/** @import { Model } from "./explorer.js" */

/** @param {{model: Model, el: HTMLElement}} place */
export function render({ model, el }) {
  const explorer = new Explorer(model, el);
  const stop = listen(explorer), forget = follow(explorer, el);
  explorer.update();
  return () => {
    stop();
    forget();
  };
}

/**
 * Where there is no Python: a model that remembers.
 * @param {string} name of the elements to fill: the same explorer may stand on a page twice
 * @param {Record<string, any>} state
 */
export function mount(name, state) {
  for (const el of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(`[data-explorer="${name}"]`))) {
    if (el.shadowRoot) continue; // it holds its explorer already
    const kept = { ...state };
    /** @type {Model} */
    const model = {
      get: (key) => kept[key],
      set: (key, value) => {
        kept[key] = value;
      },
      save_changes() {},
      on() {},
      off() {},
    };
    render({ model, el });
  }
}

export default { render };

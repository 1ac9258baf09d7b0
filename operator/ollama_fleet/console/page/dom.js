// Elements, and lists of them that change only where what they show does. Texts are set as text.

/** @param {string} tag @param {Record<string, any>} [props] `on…` listens, `class`, else attributes
 * @param {...(Node|string|null|undefined|false)} children */
export function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value == null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((one) => one != null && one !== false));
  return node;
}

/** Set a text, if it is another one. @param {Node} node @param {string} text */
export function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Set or remove an attribute, if it is another one. */
export function mark(node, name, value) {
  if (value == null || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, String(value));
}

/** @template T @typedef {{node: Element, update(item: T): void}} Part */

/** Children of an element, one for each item; an item that is the same object is left alone.
 * @template T */
export class Keyed {
  /** @param {Element} parent @param {(item: T) => Part<T>} make @param {(item: T) => string} key
   * @param {Element|null} after what stands before them all, if anything does */
  constructor(parent, make, key = (item) => item.id, after = null) {
    this.parent = parent;
    this.after = after;
    this.make = make;
    this.key = key;
    /** @type {Map<string, {part: Part<T>, item: T|null}>} */
    this.kept = new Map();
  }

  /** @param {T[]} items in order */
  show(items) {
    const keys = new Set(items.map(this.key));
    for (const [key, { part }] of this.kept) {
      if (!keys.has(key)) {
        part.node.remove();
        this.kept.delete(key);
      }
    }
    let next = this.after ? this.after.nextElementSibling : this.parent.firstElementChild;
    for (const item of items) {
      const key = this.key(item);
      let known = this.kept.get(key);
      if (!known) this.kept.set(key, (known = { part: this.make(item), item: null }));
      if (known.item !== item) {
        known.part.update(item);
        known.item = item;
      }
      if (known.part.node === next) next = next.nextElementSibling;
      else this.parent.insertBefore(known.part.node, next);
    }
  }

  /** Everything anew at the next show, though the items are the same. */
  stale() {
    for (const known of this.kept.values()) known.item = null;
  }
}

/** A bar. @param {string} label what it is the bar of */
export function bar(label) {
  const fill = h("span", { class: "fill" });
  const node = h("span", { class: "bar", role: "progressbar", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": "100" }, fill);
  let last = -1;
  return {
    node,
    /** @param {number|null} part 0 to 1; null hides it */
    update(part) {
      const whole = part == null ? null : Math.round(part * 1000) / 10;
      if (whole === last) return;
      last = whole;
      node.hidden = whole == null;
      if (whole == null) return;
      fill.style.setProperty("transform", `translateX(${whole - 100}%)`);
      node.setAttribute("aria-valuenow", String(Math.round(whole)));
    },
  };
}

const TONES = {
  Ready: "good", Installed: "good", closed: "good",
  Normal: "plain", Starting: "wait", Draining: "wait", Waiting: "wait", Pulling: "wait", Verifying: "wait", "half-open": "wait",
  Cordoned: "held", Paused: "held", Suspended: "held",
};

/** A state by its word and a sign; what nobody knows here needs a look. */
export function state() {
  const node = h("span", { class: "state" });
  return {
    node,
    /** @param {string|[string, string]} told the word, and its tone where that is not the word's own */
    update(told) {
      const [word, tone] = typeof told === "string" ? [told, TONES[told] ?? "bad"] : told;
      put(node, word);
      mark(node, "data-tone", tone);
    },
  };
}

/** A button whose action may be barred: then it says why, and does nothing.
 * @param {string} label @param {() => void} act @param {(why: string) => void} tell */
export function action(label, act, tell) {
  let barred = null;
  const node = h("button", {
    type: "button",
    class: "quiet",
    onclick: (event) => {
      event.stopPropagation();
      if (barred) tell(barred);
      else act();
    },
  }, label);
  return {
    node,
    /** @param {string|null} why not */
    update(why) {
      barred = why;
      mark(node, "aria-disabled", why ? "true" : null);
      mark(node, "title", why);
    },
  };
}

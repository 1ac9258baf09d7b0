// The filter of a page; what was typed there stays while the tab is open.
import { h } from "../dom.js";

const typed = new Map();

/** @param {string} what is filtered @param {() => void} changed */
export function filterBar(what, changed) {
  const input = h("input", {
    type: "search", id: "filter", autocomplete: "off", spellcheck: "false", placeholder: "Filter  /",
    "aria-label": `Filter ${what}`,
    oninput: () => {
      typed.set(what, input.value);
      changed();
    },
  });
  input.value = typed.get(what) ?? "";
  return { node: h("div", { class: "filter", role: "search" }, input), value: () => input.value };
}

// Tables in pages: rows are made once and changed only where their item did.
import { h, Keyed, mark, put } from "./dom.js";

const PAGE = 100;

/** @typedef {{title: string, text?: (row: any) => string, make?: () => {node: Element, update(value: any): void},
 *   of?: (row: any) => any, under?: (row: any) => string, right?: boolean, mono?: boolean, wide?: boolean, hush?: boolean}} Column
 * `text` of a cell, or what `make` makes of what `of` gives; `under` it a second line; `wide` is left out on narrow screens. */

/** @param {{caption: string, columns: Column[], key?: (row: any) => string, open?: (row: any) => void,
 *   empty?: string, heads?: boolean}} given */
export function table({ caption, columns, key, open, empty = "", heads = true }) {
  const body = h("tbody", { role: "rowgroup" });
  const head = h("thead", { role: "rowgroup", class: heads ? null : "unseen" },
    h("tr", { role: "row" }, ...columns.map((one) =>
      h("th", { scope: "col", role: "columnheader", class: classes(one) }, one.title || h("span", { class: "unseen" }, "Action")))));
  const grid = h("table", { role: "table" }, h("caption", { class: "unseen" }, caption), head, body);
  const hint = h("p", { class: "hush empty" }, empty);
  const range = h("span", { class: "range" });
  const back = h("button", { type: "button", class: "quiet", onclick: () => turn(-1) }, "Back");
  const on = h("button", { type: "button", class: "quiet", onclick: () => turn(1) }, "More");
  const pager = h("div", { class: "pager" }, range, back, on);
  let rows = [], page = 0;

  const keyed = new Keyed(body, () => line(columns, open), key);
  const node = h("div", { class: "sheet" }, grid, hint, pager);

  function turn(by) {
    page += by;
    show(rows);
    grid.scrollIntoView({ block: "nearest" });
  }

  /** @param {any[]} next */
  function show(next) {
    rows = next;
    const last = Math.max(0, Math.ceil(rows.length / PAGE) - 1);
    page = Math.min(Math.max(page, 0), last);
    const first = page * PAGE;
    keyed.show(rows.length > PAGE ? rows.slice(first, first + PAGE) : rows);
    mark(grid, "hidden", !rows.length);
    mark(hint, "hidden", rows.length > 0 || !empty);
    mark(pager, "hidden", rows.length <= PAGE);
    if (rows.length > PAGE) {
      put(range, `${first + 1}–${Math.min(first + PAGE, rows.length)} of ${rows.length}`);
      back.disabled = page === 0;
      on.disabled = page === last;
    }
  }

  return { node, show, stale: () => keyed.stale() };
}

function line(columns, open) {
  let row = null;
  const cells = columns.map((one, index) => {
    const inner = one.make?.() ?? words(index === 0 && open ? () => open(row) : null);
    const under = one.under && h("span", { class: "under" });
    const first = index === 0;
    const td = h(first ? "th" : "td", {
      scope: first ? "row" : null,
      role: first ? "rowheader" : "cell",
      class: classes(one),
      "data-label": one.title || null,
    }, inner.node, under);
    return { td, inner, under, more: one.under, value: one.of ?? one.text };
  });
  const node = h("tr", { role: "row", class: open ? "opens" : null, onclick: (event) => {
    if (open && !event.target.closest("button, a, input") && !getSelection()?.toString()) open(row);
  } }, ...cells.map((one) => one.td));
  return {
    node,
    update(item) {
      row = item;
      for (const { td, inner, under, more, value } of cells) {
        const told = value(item);
        inner.update(told);
        if (under) put(under, more(item));
        mark(td, "data-empty", told == null || told === "" ? "" : null);
      }
    },
  };
}

function words(open) {
  const node = open ? h("button", { type: "button", class: "name", onclick: open }) : h("span");
  return { node, update: (text) => put(node, text ?? "") };
}

function classes(column) {
  const found = ["right", "mono", "wide", "hush"].filter((one) => column[one]);
  return found.length ? found.join(" ") : null;
}

/** Those that have all the words of a filter. @param {any[]} rows @param {string} filter
 * @param {(row: any) => string} text */
export function filtered(rows, filter, text) {
  const wanted = filter.toLowerCase().split(/\s+/).filter(Boolean);
  if (!wanted.length) return rows;
  return rows.filter((row) => {
    const there = text(row).toLowerCase();
    return wanted.every((one) => there.includes(one));
  });
}

// Models by servers: who has what, of which digest. Arrow keys go through it.
import { h, Keyed, mark, put } from "../dom.js";
import { counted, short, word } from "../format.js";
import { matrix, runs } from "../store.js";
import { filtered } from "../table.js";
import { filterBar } from "./filter.js";

export const title = "Models";
const COLUMNS = 24, ROWS = 100;
const TONES = { installed: "good", "in memory": "full", failed: "bad", misfit: "bad", waiting: "wait", paused: "held" };

/** @param {import("../main.js").App} app */
export function make(app) {
  const { store } = app;
  /** @type {any[]} */ let columns = [];
  let page = 0, first = 0, known = { version: -1, rows: [] };
  const heads = h("tr", { role: "row" });
  const body = h("tbody", { role: "rowgroup" });
  const corner = h("th", { scope: "col", role: "columnheader" }, "MODEL");
  const many = h("th", { scope: "col", role: "columnheader", class: "right" }, "ON");
  heads.append(corner, many);
  const grid = h("table", { role: "grid", class: "matrix", "aria-label": "Models by servers", onkeydown: steer },
    h("thead", { role: "rowgroup" }, heads), body);
  const scroll = h("div", { class: "sheet scroll", role: "region", "aria-label": "Models by servers", tabindex: "0" }, grid);
  const filter = filterBar("models and servers", () => show());
  const told = h("p", { class: "hush" });
  const none = h("p", { class: "hush empty" }, "No models here. Bring one: Distribute a model.");
  const back = h("button", { type: "button", class: "quiet", onclick: () => turn(-1) }, "Servers before");
  const on = h("button", { type: "button", class: "quiet", onclick: () => turn(1) }, "Servers after");
  const pager = h("div", { class: "pager" }, h("span", { class: "range" }), back, on);
  const button = h("button", { type: "button", class: "main", onclick: () => app.distribute() }, "Distribute a model…");
  const node = h("div", { class: "view" },
    h("div", { class: "head" }, h("h1", {}, "Models"), button, filter.node), told, scroll, none, pager);
  const servers = new Keyed(heads, () => server(app), undefined, many);
  const rows = new Keyed(body, () => model(app, () => columns), (row) => row.key);

  function turn(by) {
    page += by;
    show();
  }

  function latest() {
    const version = Math.max(store.changed.task, store.changed.agent);
    if (known.version !== version) known = { version, rows: matrix(store) };
    return known.rows;
  }

  function show() {
    const every = latest(), agents = store.all("agent");
    let some = filtered(every, filter.value(), (row) => `${row.namespace} ${row.model}`);
    let shown = agents;
    if (filter.value() && !some.length) {
      // no model is called so: it is servers that are looked for
      some = every;
      shown = filtered(agents, filter.value(), (one) => `${one.id} ${one.machine_name} ${one.ollama_node}`);
    }
    const last = Math.max(0, Math.ceil(shown.length / COLUMNS) - 1);
    page = Math.min(Math.max(0, page), last);
    first = page * COLUMNS;
    columns = shown.slice(first, first + COLUMNS);
    servers.show(columns);
    rows.stale();
    rows.show(some.slice(0, ROWS));
    put(told, `${counted(some.length, "model")}, ${counted(shown.length, "server")}` +
      (some.length > ROWS ? `; the first ${ROWS} are shown: filter for others` : ""));
    none.hidden = every.length > 0;
    scroll.hidden = !some.length;
    pager.hidden = last === 0;
    put(pager.firstElementChild, `servers ${first + 1}–${first + columns.length} of ${shown.length}`);
    back.disabled = page === 0;
    on.disabled = page === last;
    if (!grid.querySelector('[tabindex="0"]')) grid.querySelector("tbody button")?.setAttribute("tabindex", "0");
  }

  /** @param {KeyboardEvent} event */
  function steer(event) {
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    const cell = event.target.closest("td, th");
    if (!cell) return;
    const lines = [...grid.rows], line = lines.indexOf(cell.parentElement), at = [...cell.parentElement.cells].indexOf(cell);
    const [down, right] = steps[event.key] ?? [0, 0];
    let next = null;
    if (event.key === "Home") next = target(lines[line], 0, 1);
    else if (event.key === "End") next = target(lines[line], lines[line].cells.length - 1, -1);
    else if (right) next = target(lines[line], at + right, right);
    else if (down) next = lines[line + down]?.cells[at]?.querySelector("button");
    else return;
    event.preventDefault();
    if (!next) return;
    for (const old of grid.querySelectorAll('[tabindex="0"]')) old.setAttribute("tabindex", "-1");
    next.setAttribute("tabindex", "0");
    next.focus();
    next.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  return { node, show };
}

function target(line, at, by) {
  for (let index = at; line.cells[index]; index += by) {
    const found = line.cells[index].querySelector("button");
    if (found) return found;
  }
  return null;
}

function server(app) {
  let agent = null;
  const name = h("button", { type: "button", class: "name", tabindex: "-1", onclick: () => app.why("agent", agent.id) });
  return {
    node: h("th", { scope: "col", role: "columnheader" }, name),
    update(one) {
      agent = one;
      put(name, one.name);
    },
  };
}

function model(app, columns) {
  let row = null;
  const name = h("button", { type: "button", class: "name", tabindex: "-1", onclick: () => app.why("model", row.key) });
  const space = h("span", { class: "hush space" });
  const many = h("td", { role: "gridcell", class: "right", "data-label": "ON" });
  const node = h("tr", { role: "row" }, h("th", { scope: "row", role: "rowheader" }, name, space), many);
  const cells = [];
  return {
    node,
    update(item) {
      row = item;
      put(name, row.model);
      put(space, app.namespaces().length > 1 ? row.namespace : "");
      let have = 0;
      for (const cell of row.cells.values()) have += cell.resident || cell.task?.state === "Installed" ? 1 : 0;
      put(many, `${have} of ${row.cells.size}`);
      const now = columns();
      while (cells.length > now.length) cells.pop().node.remove();
      while (cells.length < now.length) {
        const made = cell(app);
        cells.push(made);
        node.append(made.node);
      }
      now.forEach((agent, index) => cells[index].update(row, agent));
    },
  };
}

function cell(app) {
  let subject = null, last = "";
  const text = h("span", { class: "word" }), digest = h("span", { class: "digest" });
  const button = h("button", { type: "button", class: "cell", tabindex: "-1", onclick: () => app.why(...subject) }, text, digest);
  const node = h("td", { role: "gridcell" }, button);
  return {
    node,
    update(row, agent) {
      const found = row.cells.get(agent.id);
      const told = !found ? "-" : found.resident ? "in memory" : word(found.task);
      const is = found?.task?.digest ? short(found.task.digest) : "";
      const drifted = Boolean(found?.task?.drifted);
      subject = found?.task ? ["task", found.task.id] : ["absent", agent.id, row.model];
      const now = `${agent.name} ${row.model} ${told} ${is} ${drifted}`;
      if (now === last) return;
      last = now;
      put(text, told);
      put(digest, drifted ? `≠ ${is}` : is);
      mark(button, "data-server", agent.name);
      mark(node, "data-empty", found ? null : "");
      mark(button, "data-tone", found?.task && runs(found.task) ? "wait" : TONES[told] ?? null);
      mark(button, "data-drifted", drifted ? "" : null);
      mark(button, "aria-label", `${row.model} on ${agent.name}: ${told === "-" ? "not wanted" : told}${drifted ? ", another digest than is wanted" : ""}`);
    },
  };
}

// The fleet on one screen, as `kubectl ollama status` tells it.
import { bar, h, Keyed, mark, put } from "../dom.js";
import { amounts, both, perSecond, share } from "../format.js";
import { attention, heading, runs } from "../store.js";
import { table } from "../table.js";
import { memory, names, pulling, resident, several, stated } from "./columns.js";

export const title = "Overview";

/** @param {import("../main.js").App} app */
export function make(app) {
  const { store } = app;
  const used = bar("memory in use");
  const figures = {
    servers: figure("servers ready"),
    memory: figure("in use", used.node),
    rate: figure("requests/s"),
    first: figure("first token p50 / p99"),
    queue: figure("queued"),
    active: figure("requests under way"),
  };
  const routers = h("ul", { class: "lines" });
  const lines = new Keyed(routers, () => router());
  const needs = h("ul", { class: "needs" });
  const rows = new Keyed(needs, () => need(app), (row) => row.key);
  const calm = h("p", { class: "hush sheet calm" }, "Nothing needs anybody.");
  const more = h("p", { class: "hush" });
  const servers = table({
    caption: "Servers",
    columns: [names("SERVER"), ...several(app), stated(), memory(), { title: "ACTIVE", right: true, text: (one) => String(one.active_requests ?? "") }, resident()],
    open: (one) => app.why("agent", one.id),
    empty: "No servers here. Make an OllamaNode (kubectl explain ollamanode.spec).",
  });
  const omitted = h("p", { class: "hush" });
  const pulls = table({
    caption: "Running pulls",
    columns: pulling(app),
    open: (one) => app.why("task", one.id),
    empty: "Nothing is being pulled.",
  });
  const count = h("span", { class: "count" });

  const node = h("div", { class: "view" },
    h("h1", { class: "unseen" }, "Overview"),
    h("dl", { class: "figures" }, ...Object.values(figures).map((one) => one.node)),
    routers,
    h("section", { "aria-labelledby": "attention" }, h("h2", { id: "attention" }, "Attention", count), needs, calm, more),
    h("section", { "aria-labelledby": "servers" }, h("h2", { id: "servers" }, "Servers"), servers.node, omitted),
    h("section", { "aria-labelledby": "pulls" }, h("h2", { id: "pulls" }, "Pulls"), pulls.node));

  let known = { version: -1, rows: [] };
  /** Troubles that are told as before are the same objects, so that they are left alone. */
  function troubles() {
    const version = Math.max(...["agent", "task", "node", "distribution", "router"].map((kind) => store.changed[kind]));
    if (known.version !== version) {
      const before = new Map(known.rows.map((row) => [row.key, row]));
      const now = attention(store).map((row) => {
        const old = before.get(row.key);
        return old && old.reason === row.reason && old.message === row.message ? old : row;
      });
      known = { version, rows: now };
    }
    return known.rows;
  }

  return {
    node,
    show() {
      const now = heading(store);
      figures.servers.show(`${now.ready} of ${now.servers}`);
      figures.memory.show(now.total ? amounts(now.used, now.total, " of ") : "unknown");
      used.update(share(now.used, now.total));
      figures.rate.show(perSecond(now.rate));
      figures.first.show(both(now.p50, now.p99));
      figures.queue.show(now.queued == null ? "-" : String(now.queued));
      figures.active.show(String(now.active));
      lines.show(store.all("router"));
      const found = troubles();
      rows.show(found.slice(0, 50));
      put(count, found.length ? String(found.length) : "");
      mark(calm, "hidden", found.length > 0);
      put(more, found.length > 50 ? `${found.length - 50} more like these.` : "");
      servers.show(store.all("agent"));
      put(omitted, now.omitted ? `${now.omitted} more servers are not listed: status names the first 100` : "");
      pulls.show(store.all("task").filter(runs));
    },
  };
}

/** Numbers keep their units beside them. */
const together = (text) => text.replace(/(\d) /g, "$1\u00a0");

function figure(label, below = null) {
  const value = h("span");
  const dd = h("dd", {}, value, below);
  return { node: h("div", {}, h("dt", {}, label), dd), show: (text) => put(value, together(text)) };
}

function router() {
  const link = h("a", { href: "#/routers" });
  const rest = h("span");
  return {
    node: h("li", {}, link, rest),
    update(one) {
      put(link, `router ${one.name}`);
      put(rest, `: ${one.ready_replicas}/${one.replicas} ready, ${one.url ?? "no address yet"}`);
    },
  };
}

function need(app) {
  let row = null;
  const what = h("button", { type: "button", class: "name", onclick: () => app.why(row.kind, row.id) });
  const reason = h("strong"), message = h("span");
  return {
    node: h("li", {}, h("div", { class: "what" }, what), h("div", { class: "reason" }, reason, " ", message)),
    update(item) {
      row = item;
      put(what, item.what);
      put(reason, `${item.reason}:`);
      put(message, item.message ?? "");
    },
  };
}

// What Kubernetes tells of the three kinds, the latest first.
import { h } from "../dom.js";
import { age } from "../format.js";
import { filtered, table } from "../table.js";
import { several, stated } from "./columns.js";
import { filterBar } from "./filter.js";

export const title = "Events";
const OF = { OllamaNode: "node", ModelDistribution: "distribution", Router: "router" };

/** @param {import("../main.js").App} app */
export function make(app) {
  const { store } = app;
  const rows = table({
    caption: "Events",
    columns: [
      { title: "ABOUT", text: (one) => `${one.kind} ${one.name}` },
      ...several(app),
      stated("TYPE", (one) => one.type),
      { title: "REASON", text: (one) => one.reason },
      { title: "MESSAGE", text: (one) => one.message },
      { title: "COUNT", text: (one) => (one.count > 1 ? String(one.count) : ""), right: true },
      { title: "AGE", text: (one) => age(one.last_seen, Date.now()), right: true, hush: true },
    ],
    open: (one) => app.why(OF[one.kind] ?? "event", `${one.namespace}.${one.name}`),
    empty: "No events, or none that you may see.",
  });
  const filter = filterBar("events", () => show());
  const node = h("div", { class: "view" }, h("div", { class: "head" }, h("h1", {}, "Events"), filter.node), rows.node);
  function show() {
    rows.show(filtered(store.all("event"), filter.value(), (one) =>
      `${one.kind} ${one.namespace} ${one.name} ${one.type} ${one.reason} ${one.message}`));
  }
  return { node, show, stale: rows.stale };
}

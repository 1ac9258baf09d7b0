// Routers: what goes through them, and how they choose.
import { h, Keyed, put, state } from "../dom.js";
import { both, perSecond } from "../format.js";
import { trafficOf } from "../store.js";
import { filtered, table } from "../table.js";
import { standing } from "./columns.js";
import { filterBar } from "./filter.js";

export const title = "Routers";

/** @param {import("../main.js").App} app */
export function make(app) {
  const { store } = app;
  const list = h("div", { class: "routers" });
  const shown = new Keyed(list, () => one(app), (pair) => pair.router.id);
  const filter = filterBar("routers", () => show());
  const none = h("p", { class: "hush" }, "No Routers here. Make one (kubectl explain router.spec).");
  const pairs = new Map();
  const node = h("div", { class: "view" }, h("div", { class: "head" }, h("h1", {}, "Routers"), filter.node), list, none);
  function show() {
    const found = filtered(store.all("router"), filter.value(), (router) => `${router.id} ${router.url} ${router.models.join(" ")}`).map((router) => {
      const traffic = trafficOf(store, router.id);
      const known = pairs.get(router.id);
      if (known && known.router === router && known.traffic === traffic) return known;
      const pair = { router, traffic };
      pairs.set(router.id, pair);
      return pair;
    });
    shown.show(found);
    none.hidden = found.length > 0;
  }
  return { node, show };
}

const FIGURES = [
  ["requests/s", (traffic) => perSecond(traffic.requests_per_second)],
  ["tokens/s", (traffic) => perSecond(traffic.tokens_per_second)],
  ["first token p50 / p99", (traffic) => both(traffic.first_token_p50_s, traffic.first_token_p99_s)],
  ["queued", (traffic) => String(traffic.queued ?? "-")],
  ["in flight", (traffic) => String(traffic.in_flight ?? "-")],
  ["rejected/s", (traffic) => perSecond(traffic.rejected_per_second)],
  ["retried/s", (traffic) => perSecond(traffic.retried_per_second)],
];

function one(app) {
  let pair = null;
  const name = h("button", { type: "button", class: "name", onclick: () => app.why("router", pair.router.id) });
  const how = state();
  const facts = h("p", { class: "hush mono" });
  const message = h("p");
  const values = FIGURES.map(([label]) => {
    const dd = h("dd");
    return { node: h("div", {}, h("dt", {}, label), dd), dd };
  });
  const figures = h("dl", { class: "figures small" }, ...values.map((value) => value.node));
  const servers = table({
    caption: "Servers of the router",
    key: (server) => server.name,
    columns: [
      { title: "SERVER", text: (server) => server.name },
      { title: "STATE", make: state, of: (server) => server.state },
      { title: "IN FLIGHT", text: (server) => String(server.in_flight ?? 0), right: true },
      { title: "REQUESTS/S", text: (server) => perSecond(server.requests_per_second), right: true },
      { title: "BREAKER", make: state, of: (server) => server.breaker },
      { title: "CHOSEN, AND WHY", text: decided },
    ],
    open: (server) => app.why("breaker", pair.router.id, server.name),
    empty: "No figures yet: the router's pods are asked while somebody looks.",
  });
  const node = h("section", { class: "router" },
    h("div", { class: "head" }, h("h2", {}, name), how.node), facts, message, figures, servers.node);
  return {
    node,
    update(given) {
      pair = given;
      const { router, traffic } = given;
      put(name, router.name);
      how.update(standing(router));
      put(facts, [router.url ?? "no address yet", `${router.ready_replicas}/${router.replicas} ready`,
        `${router.servers_ready}/${router.servers} servers`, `${router.models.length} models`,
        app.namespaces().length > 1 ? router.namespace : ""].filter(Boolean).join("  ·  "));
      put(message, router.ready ? "" : router.message ?? "");
      figures.hidden = !traffic;
      if (traffic) FIGURES.forEach(([, text], index) => put(values[index].dd, text(traffic)));
      servers.show(traffic?.servers ?? []);
    },
  };
}

/** `Resident 3.1/s, Conversation 0.4/s`, the most frequent first. */
export function decided(server) {
  return [...(server.decisions ?? [])]
    .filter((one) => one.per_second > 0)
    .sort((one, other) => other.per_second - one.per_second)
    .map((one) => `${one.reason} ${perSecond(one.per_second)}/s`)
    .join(", ");
}

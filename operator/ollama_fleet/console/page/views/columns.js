// Columns that several pages have.
import { bar, h, put, state } from "../dom.js";
import { amounts, eta, percent, rate, share, span } from "../format.js";
import { serverOf, stateOf } from "../store.js";

/** @typedef {import("../table.js").Column} Column */

/** @returns {Column} */
export const names = (title, text = (one) => one.name) => ({ title, text });

/** The namespace, where there is more than one. @returns {Column[]} */
export function several(app) {
  return app.namespaces().length > 1 ? [{ title: "NAMESPACE", text: (one) => one.namespace, hush: true }] : [];
}

/** @returns {Column} */
export const stated = (title = "STATE", of = stateOf) => ({ title, make: state, of });

/** Memory as a bar, and in words. @returns {Column} */
export const memory = () => ({ title: "MEMORY", make: () => gauge("memory in use"), of: (one) =>
  [share(one.memory_used_bytes, one.memory_bytes), amounts(one.memory_used_bytes, one.memory_bytes)] });

/** How a resource with conditions stands. @returns {[string, string]} word and tone */
export function standing(one) {
  if (one.suspended) return ["Suspended", "held"];
  if (one.ready) return ["Ready", "good"];
  return [one.reason ?? "Unknown", one.stalled ? "bad" : "wait"];
}

/** What is in memory. @returns {Column} */
export const resident = () => ({ title: "IN MEMORY", text: (one) => (one.models_resident ?? []).join(", ") });

/** What is being pulled. @returns {Column[]} */
export const pulling = (app) => [
  names("SERVER", serverOf),
  ...several(app),
  { title: "PULLING", text: (one) => one.model_name },
  { title: "PROGRESS", make: progress, of: (one) => one.progress },
  { title: "SPEED", text: (one) => rate(one.download_speed_bps), right: true },
  { title: "ETA", text: remaining, right: true },
];

/** When a pull ends, at its present speed. */
export function remaining(task) {
  const left = eta(task);
  return left == null ? "" : span(left);
}

/** A bar with words beside it. */
function gauge(label) {
  const inner = bar(label), figure = h("span", { class: "figure" });
  return {
    node: h("span", { class: "progress" }, inner.node, figure),
    /** @param {[number|null, string]} told */
    update([part, words]) {
      inner.update(part);
      put(figure, words);
    },
  };
}

/** A bar with its percentage; nothing for null. */
export function progress() {
  const { node, update } = gauge("progress");
  return { node, update: (part) => update([part, part == null ? "" : percent(part)]) };
}

// Servers of every kind, and what they are made of.
import { h, put } from "../dom.js";
import { counted, gib } from "../format.js";
import { filtered, table } from "../table.js";
import { filterBar } from "./filter.js";
import { memory, names, resident, several, stated } from "./columns.js";

export const title = "Servers";

/** @param {import("../main.js").App} app */
export function make(app) {
  const { store } = app;
  const cordons = app.switcher(
    (one) => store.one("node", `${one.namespace}.${one.ollama_node}`)?.cordoned ?? one.cordoned,
    { on: "Uncordon", off: "Cordon", what: "cordon", act: (one) => app.cordon(one) });
  const rows = table({
    caption: "Servers",
    columns: [
      { ...names("SERVER"), under: (one) => `${one.ollama_node}${one.kind === "external" ? ", outside Kubernetes" : ""}` },
      ...several(app),
      stated(),
      memory(),
      { title: "ACTIVE", text: (one) => String(one.active_requests ?? ""), right: true },
      resident(),
      { title: "MODELS", text: (one) => String(one.models_installed ?? ""), right: true },
      { title: "GPU, DISK", text: gpu, under: (one) => (one.disk_free_bytes == null ? "" : `${gib(one.disk_free_bytes)} free`) },
      { title: "VERSION, ADDRESS", text: (one) => one.ollama_version || "unknown", under: address, wide: true },
      { title: "", make: cordons, of: (one) => one },
    ],
    open: (one) => app.why("agent", one.id),
    empty: "No servers here. Make an OllamaNode (kubectl explain ollamanode.spec).",
  });
  const filter = filterBar("servers", () => show());
  const told = h("p", { class: "hush" });
  const node = h("div", { class: "view" }, h("div", { class: "head" }, h("h1", {}, "Servers"), filter.node), told, rows.node);
  function show() {
    const all = store.all("agent");
    const some = filtered(all, filter.value(), (one) =>
      `${one.id} ${one.ollama_node} ${one.state} ${one.machine_name} ${one.gpu_model ?? ""} ${(one.models_resident ?? []).join(" ")} ${one.cordoned ? "cordoned" : ""}`);
    put(told, some.length === all.length ? counted(all.length, "server") : `${some.length} of ${counted(all.length, "server")}`);
    rows.show(some);
  }
  return { node, show, stale: rows.stale };
}

/** `2 × NVIDIA L40S`; nothing where there is none, or nobody knows. */
export function gpu(one) {
  if (!one.gpu_model) return one.gpu_count ? counted(one.gpu_count, "GPU") : "";
  return one.gpu_count > 1 ? `${one.gpu_count} × ${one.gpu_model}` : one.gpu_model;
}

/** Host and port. */
export function address(one) {
  if (!one.ip_address) return "";
  return `${one.ip_address.includes(":") ? `[${one.ip_address}]` : one.ip_address}:${one.ollama_port}`;
}

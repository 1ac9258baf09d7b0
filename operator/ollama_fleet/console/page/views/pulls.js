// Tasks and the ModelDistributions they are of.
import { h, put } from "../dom.js";
import { rate } from "../format.js";
import { runs, serverOf } from "../store.js";
import { filtered, table } from "../table.js";
import { names, progress, remaining, several, standing, stated } from "./columns.js";
import { filterBar } from "./filter.js";

export const title = "Pulls";
const CHOICES = {
  all: ["All", () => true],
  running: ["Running", runs],
  waiting: ["Waiting", (one) => one.status === "pending"],
  failed: ["Failed", (one) => one.status === "failed"],
  drifted: ["Drifted", (one) => one.drifted],
  done: ["Installed", (one) => one.status === "completed"],
};
const RANK = { downloading: 0, failed: 1, pending: 2, completed: 3 };

/** @param {import("../main.js").App} app */
export function make(app) {
  const { store } = app;
  const suspends = app.switcher((one) => one.suspended,
    { on: "Resume", off: "Suspend", what: "change", act: (one) => app.suspend(one) });
  const distributions = table({
    caption: "Distributions",
    columns: [
      names("DISTRIBUTION"),
      ...several(app),
      { title: "MODELS", text: (one) => one.models.join(", ") },
      stated("STATUS", standing),
      ...["desired", "installed", "pulling", "waiting", "failed", "misfit", "drifted"].map((field) =>
        ({ title: field.toUpperCase(), text: (one) => String(one[field] ?? 0), right: true, wide: field === "waiting" })),
      { title: "", make: suspends, of: (one) => one },
    ],
    open: (one) => app.why("distribution", one.id),
    empty: "No ModelDistributions here. Distribute a model, or apply one.",
  });
  const tasks = table({
    caption: "Tasks",
    columns: [
      names("MODEL", (one) => one.model_name),
      ...several(app),
      { title: "SERVER", text: serverOf },
      stated("STATE", (one) => one.state),
      { title: "PROGRESS", make: progress, of: (one) => (runs(one) ? one.progress : null) },
      { title: "SPEED", text: (one) => rate(one.download_speed_bps), right: true },
      { title: "ETA", text: remaining, right: true },
      { title: "WHY", text: (one) => one.error ?? one.message ?? one.reason ?? (one.drifted ? "has another digest than is wanted" : "") },
      { title: "", make: () => app.retryButton(), of: (one) => one },
    ],
    open: (one) => app.why("task", one.id),
    empty: "No tasks like that.",
  });
  let chosen = "all";
  const choice = h("select", { id: "which", "aria-label": "Which tasks", onchange: () => {
    chosen = choice.value;
    show();
  } }, ...Object.entries(CHOICES).map(([value, [label]]) => h("option", { value }, label)));
  const filter = filterBar("pulls", () => show());
  const many = h("span", { class: "count" });
  const omitted = h("p", { class: "hush" });
  const button = h("button", { type: "button", class: "main", onclick: () => app.distribute() }, "Distribute a model…");
  const node = h("div", { class: "view" },
    h("div", { class: "head" }, h("h1", {}, "Pulls"), button, filter.node),
    h("section", { "aria-labelledby": "tasks" }, h("div", { class: "head" }, h("h2", { id: "tasks" }, "Tasks", many), choice), tasks.node, omitted),
    h("section", { "aria-labelledby": "wanted" }, h("h2", { id: "wanted" }, "Distributions"), distributions.node));

  let ordered = { changed: -1, tasks: [] };
  /** Running ones first; in place until one is more or less, or changes its standing. */
  function all() {
    if (ordered.changed !== store.changed.task) {
      const groups = [[], [], [], []];
      for (const task of store.all("task")) groups[RANK[task.status] ?? 2].push(task);
      ordered = { changed: store.changed.task, tasks: groups.flat() };
    }
    return ordered.tasks;
  }

  function show() {
    const some = filtered(all().filter(CHOICES[chosen][1]), filter.value(), (one) =>
      `${one.model_name} ${one.agent_id} ${one.state} ${one.distribution} ${one.reason ?? ""} ${one.digest ?? ""}`);
    tasks.show(some);
    put(many, some.length ? String(some.length) : "");
    distributions.show(filtered(store.all("distribution"), filter.value(), (one) => `${one.id} ${one.models.join(" ")} ${one.reason ?? ""}`));
    const left = store.all("distribution").reduce((total, one) => total + (one.tasks_omitted ?? 0), 0);
    put(omitted, left ? `Of ${left} of these the ModelDistributions' status gives the count alone.` : "");
  }
  return {
    node,
    show,
    stale() {
      tasks.stale();
      distributions.stale();
    },
  };
}

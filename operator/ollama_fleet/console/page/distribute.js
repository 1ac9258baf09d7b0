// Distribute a model: first whether it fits, server by server; then the pull, and its tasks.
import { call, path } from "./api.js";
import { dialog } from "./dialog.js";
import { h, Keyed, mark, put, state } from "./dom.js";
import { gib, canonical } from "./format.js";
import { serverOf } from "./store.js";
import { progress } from "./views/columns.js";

const PAUSE = 400;

/** @param {import("./main.js").App} app @param {string} [model] @param {string[]} [ids] chosen already */
export function distribute(app, model = "", ids = []) {
  const spaces = app.namespaces();
  let checked = null, timer = 0, asking = null;
  const chosen = new Set(ids);
  const { node, body } = dialog("Distribute a model", { wide: true, closed: () => {
    clearTimeout(timer);
    asking?.abort();
    app.watch(null);
  } });
  const offers = h("datalist", { id: "offers" });
  const name = h("input", { id: "model", name: "model", list: "offers", autocomplete: "off", spellcheck: "false", placeholder: "llama3.1:8b", required: true, oninput: later });
  name.value = model;
  const about = h("p", { class: "hush" });
  const place = h("select", { id: "place", onchange: later }, ...(spaces.length > 1 ? [h("option", { value: "" }, "all that you may see")] : []),
    ...spaces.map((one) => h("option", { value: one }, one)));
  if (ids.length) place.value = ids[0].split(".")[0];
  const all = radio("all", "All servers, those to come included", !ids.length);
  const some = radio("specific", "Chosen servers", ids.length > 0);
  const says = h("p", { class: "hush", role: "status" });
  const list = h("tbody");
  const verdicts = h("table", { class: "verdicts" }, h("caption", { class: "unseen" }, "Whether it fits"),
    h("thead", {}, h("tr", {}, ...["", "SERVER", "FITS", "NEEDS", "HAS", "WHY"].map((one) =>
      h("th", { scope: "col" }, one || h("span", { class: "unseen" }, "Chosen"))))), list);
  const sheet = h("div", { class: "sheet tall", tabindex: "0", role: "region", "aria-label": "Whether it fits", hidden: true }, verdicts);
  const refusal = h("p", { class: "refusal", role: "alert", hidden: true });
  const go = h("button", { type: "submit", class: "main", disabled: true }, "Distribute");
  const form = h("form", { onsubmit: (event) => {
    event.preventDefault();
    if (!go.disabled) start();
  } },
  h("div", { class: "field" }, h("label", { for: "model" }, "Model"), name, offers, about),
  h("div", { class: "field", hidden: spaces.length < 2 }, h("label", { for: "place" }, "Namespace"), place),
  h("fieldset", {}, h("legend", {}, "Where"), all.node, some.node),
  says, sheet, refusal, h("div", { class: "actions" }, go));
  body.append(form);
  name.focus();
  call("GET", "/api/models/available").then((found) => {
    const known = new Map(found.models.map((one) => [one.name, one]));
    offers.append(...found.models.map((one) => h("option", { value: one.name, label: `${one.display_name}, ${one.size_gb.toFixed(1)} GB` })));
    const tell = () => {
      const one = known.get(name.value.trim()) ?? known.get(canonical(name.value.trim() || "-"));
      put(about, one ? `${one.display_name}, ${one.size_gb.toFixed(1)} GB: ${one.description}` : found.problem ?? "");
    };
    name.addEventListener("input", tell);
    tell();
  }, (error) => put(about, error.message));
  if (model) check();
  else ready();

  function radio(value, label, checkedFirst) {
    const input = h("input", { type: "radio", name: "target", value, checked: checkedFirst, onchange: ready });
    return { node: h("label", { class: "choice" }, input, label), input };
  }

  function later() {
    checked = null;
    ready();
    clearTimeout(timer);
    timer = setTimeout(check, PAUSE);
  }

  /** Ask for the verdicts; an earlier question's answer is of no use any more. */
  async function check() {
    asking?.abort();
    const wanted = name.value.trim();
    sheet.hidden = true;
    if (!wanted) {
      ready();
      return;
    }
    const mine = (asking = new AbortController());
    put(says, "Asking whether it fits…");
    try {
      const found = await app.fit(wanted, place.value, mine.signal);
      if (mine !== asking) return;
      checked = { model: wanted, namespace: place.value, ...found };
      list.replaceChildren(...found.verdicts.map(verdict));
      sheet.hidden = !found.verdicts.length;
    } catch (error) {
      if (mine.signal.aborted) return;
      checked = { model: wanted, error: error.message, verdicts: [] };
    }
    ready();
  }

  function verdict(one) {
    const box = h("input", { type: "checkbox", "aria-label": one.agent_id, onchange: () => {
      if (box.checked) chosen.add(one.agent_id);
      else chosen.delete(one.agent_id);
      ready();
    } });
    box.checked = chosen.has(one.agent_id);
    const word = one.installed ? "installed" : one.fits ? "yes" : one.fits === false ? "no" : "unknown";
    return h("tr", { "data-fits": String(one.fits) }, h("td", {}, box), h("th", { scope: "row" }, one.agent_id.slice(one.agent_id.indexOf(".") + 1)),
      h("td", { "data-label": "FITS" }, word), h("td", { class: "right", "data-label": "NEEDS" }, gib(one.need_bytes)),
      h("td", { class: "right", "data-label": "HAS" }, one.has_bytes == null ? "unknown" : gib(one.has_bytes)), h("td", { "data-label": "WHY" }, one.message));
  }

  /** What may be done now, and why not. */
  function ready() {
    const everywhere = all.input.checked;
    for (const box of list.querySelectorAll("input")) box.disabled = everywhere;
    mark(sheet, "data-all", everywhere ? "" : null);
    const meant = checked?.verdicts.filter((one) => everywhere || chosen.has(one.agent_id)) ?? [];
    const not = meant.filter((one) => one.fits === false).length;
    const spacesMeant = [...new Set(meant.map((one) => one.agent_id.split(".")[0]))];
    const barred = (spacesMeant.length ? spacesMeant : spaces.slice(0, 1)).map((one) => app.may(one, "distribute")).find(Boolean) ?? null;
    if (checked?.error) put(says, checked.error);
    else if (!name.value.trim()) put(says, "Name a model: whether it fits is told before anything is pulled.");
    else if (checked && !checked.verdicts.length) put(says, "There is no server to distribute to.");
    else if (checked && !meant.length) put(says, "Choose at least one server.");
    else if (checked) {
      put(says, `${checked.model}, ${checked.size_gb.toFixed(1)} GB to download: fits ${meant.length - not} of ${meant.length} servers.` +
        (not ? ` Where it does not, it is told as a misfit.` : ""));
    }
    refusal.hidden = !barred;
    if (barred) put(refusal, barred);
    go.disabled = Boolean(barred) || !checked || checked.error || !meant.length || not === meant.length;
  }

  async function start() {
    const target = all.input.checked ? "all" : "specific";
    const there = checked.verdicts.map((one) => one.agent_id).filter((one) => chosen.has(one));
    go.disabled = true;
    refusal.hidden = true;
    try {
      const sent = { model_name: checked.model, target, ...(target === "specific" ? { agent_ids: there } : {}) };
      const made = await call("POST", path("/api/models/distribute", { namespace: target === "all" ? checked.namespace : "" }), sent);
      followed(app, node, body, checked.model, made.task_ids);
    } catch (error) {
      put(refusal, error.message);
      refusal.hidden = false;
      go.disabled = false;
    }
  }
}

/** The tasks that came of it, until somebody looks elsewhere. */
function followed(app, node, body, model, ids) {
  const says = h("p", { role: "status" });
  const list = h("ul", { class: "followed" });
  const rows = new Keyed(list, () => {
    const server = h("span", { class: "what" }), how = state(), bar = progress(), cause = h("span", { class: "hush cause" });
    return {
      node: h("li", {}, server, how.node, bar.node, cause),
      update(task) {
        put(server, serverOf(task));
        how.update(task.state);
        bar.update(task.progress);
        put(cause, task.error ?? task.message ?? "");
      },
    };
  });
  const close = h("button", { type: "button", class: "main", onclick: () => node.close() }, "Close");
  body.replaceChildren(says, list, h("p", { class: "hush" }, "It goes on without this page: see Pulls."), h("div", { class: "actions" }, close));
  close.focus();
  const draw = () => {
    const tasks = ids.map((id) => app.store.one("task", id)).filter(Boolean);
    const done = tasks.filter((task) => task.status === "completed").length, failed = tasks.filter((task) => task.status === "failed").length;
    const all = done + failed === ids.length;
    put(says, all && !failed ? `${model} is installed on ${ids.length === 1 ? "the server" : `all ${ids.length} servers`}.`
      : all ? `${model} is installed on ${done} of ${ids.length} servers; ${failed} failed.`
        : `${model} is on its way: installed on ${done} of ${ids.length} servers.`);
    rows.show(tasks.slice(0, 100));
  };
  draw();
  app.watch(draw);
}

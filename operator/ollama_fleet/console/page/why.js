// Why something is as it is: facts and sentences of one subject, told anew when it changes.
import { call } from "./api.js";
import { dialog } from "./dialog.js";
import { h, mark, put } from "./dom.js";
import { age, amounts, both, canonical, download, gib, perSecond, percent, rate, short, span } from "./format.js";
import { matrix, runs, serverOf, stateOf, trafficOf } from "./store.js";
import { remaining } from "./views/columns.js";
import { decided } from "./views/routers.js";
import { address, gpu } from "./views/servers.js";

/** @typedef {{heading: string, said?: (string|null|undefined)[], facts: [string, string|Node|null|undefined][],
 *   actions?: Node[], about?: [string, string, string], live: any[]}} Told
 * `live`: told again once one of these is another object; `about`: kind, namespace and name of its Events */

const BREAKERS = {
  closed: "The breaker is closed: it answers, and gets requests as it is chosen.",
  "half-open": "The breaker is half-open: one request is let through to see whether it answers again.",
  open: "The breaker is open: it failed several times in a row, and gets no requests for a while.",
};
const DECISIONS = {
  Resident: "the model was in memory",
  Conversation: "so was what came before in the conversation",
  Waits: "it is busy, and has the model in memory: waiting is quicker than loading elsewhere",
  Loading: "it was loading the model already",
  Cold: "the model had to be loaded",
  OnlyOne: "no other has the model",
  LeastLoad: "it had the least to do",
  Weighted: "by its weight",
  RoundRobin: "it was its turn",
};

/** @param {import("./main.js").App} app @param {string} kind @param {string} id @param {string} [more] */
export function why(app, kind, id, more) {
  const tell = () => TELL[kind]?.(app, id, more) ?? gone(id);
  let told = tell();
  const open = dialog(told.heading, { closed: () => app.watch(null) });
  const extra = h("div");
  const main = h("div");
  const events = h("div");
  open.body.append(main, extra, events);
  if (kind === "agent" && told.live[0]) extra.append(installed(app, id));
  if (kind === "absent") extra.append(fits(app, id, more));

  function draw() {
    const focused = document.activeElement?.closest("[data-act]")?.getAttribute("data-act");
    put(open.titled, told.heading);
    main.replaceChildren(
      ...(told.said ?? []).filter(Boolean).map((one) => h("p", { class: "said" }, one)),
      facts(told.facts),
      h("div", { class: "actions" }, ...(told.actions ?? [])));
    const found = told.about ? about(app, ...told.about) : [];
    events.replaceChildren(...(found.length ? [h("h3", {}, "Events"), h("ul", { class: "history" }, ...found)] : []));
    if (focused) main.querySelector(`[data-act="${focused}"] button, button[data-act="${focused}"]`)?.focus();
  }
  draw();
  app.watch(() => {
    const next = tell();
    if (next.live.length !== told.live.length || next.live.some((one, index) => one !== told.live[index])) {
      told = next;
      draw();
    }
  });
}

/** What is neither empty nor unknown, as a list of terms. */
function facts(pairs) {
  return h("dl", { class: "facts" }, ...pairs.filter(([, value]) => value != null && value !== "").map(([term, value]) =>
    h("div", {}, h("dt", {}, term), h("dd", {}, value))));
}

function about(app, kind, namespace, name) {
  return app.store.all("event").filter((one) => one.kind === kind && one.namespace === namespace && one.name === name).slice(0, 8)
    .map((one) => h("li", {}, h("span", { class: "hush" }, `${age(one.last_seen, Date.now())} `), h("strong", {}, `${one.reason}: `), one.message));
}

const gone = (id) => ({ heading: id, said: ["It is not there any more, or not yet."], facts: [], live: [null] });
const at = (time) => (time ? new Date(time).toLocaleString() : "");
const button = (made, name) => {
  mark(made.node, "data-act", name);
  return made.node;
};

/** @type {Record<string, (app: any, id: string, more?: string) => Told|null>} */
const TELL = {
  agent(app, id) {
    const one = app.store.one("agent", id);
    if (!one) return null;
    const node = app.store.one("node", `${one.namespace}.${one.ollama_node}`);
    const act = app.action(node?.cordoned ?? one.cordoned ? "Uncordon…" : "Cordon…", one.namespace, "cordon", () => app.cordon(one));
    return {
      heading: `server ${one.name}`,
      said: [
        one.message ? `${one.state}: ${one.message}` : one.state === "Ready" ? "It answers, and takes requests and pulls." : `It is ${one.state}.`,
        one.cordoned ? `OllamaNode ${one.ollama_node} is cordoned: no new requests and no pulls for its servers.` : "",
        node && !node.ready && node.message && node.message !== one.message ? `OllamaNode ${node.name}: ${node.reason}: ${node.message}` : "",
      ],
      facts: [
        ["State", stateOf(one)], ["OllamaNode", one.ollama_node], ["Namespace", one.namespace],
        ["Machine", one.machine_name], ["Kind", one.kind === "external" ? "outside Kubernetes" : "pod"],
        ["Memory in use", amounts(one.memory_used_bytes, one.memory_bytes, " of ")],
        ["In memory", (one.models_resident ?? []).join(", ") || "nothing"],
        ["Requests under way", one.active_requests == null ? "" : String(one.active_requests)],
        ["GPU", gpu(one)],
        ["GPU memory", one.gpu_memory_bytes ? `${gib(one.gpu_memory_bytes)}${one.gpu_count > 1 ? " each" : ""}` : ""],
        ["Disk free", one.disk_free_bytes == null ? "" : amounts(one.disk_free_bytes, one.disk_bytes ?? one.disk_free_bytes, " of ")],
        ["CPU", one.cpu_usage == null ? "" : `${one.cpu_usage.toFixed(0)}%`],
        ["Ollama", one.ollama_version], ["Address", address(one)],
        ["Registered", at(one.registered_at)], ["Last seen", at(one.last_seen)],
      ],
      actions: [button(act, "cordon")],
      about: ["OllamaNode", one.namespace, one.ollama_node],
      live: [one, node, app.me],
    };
  },
  node(app, id) {
    const one = app.store.one("node", id);
    if (!one) return null;
    return {
      heading: `OllamaNode ${one.name}`,
      said: [condition(one), one.cordoned ? "It is cordoned: no new requests and no pulls for its servers." : ""],
      facts: [["Namespace", one.namespace], ["Servers ready", `${one.ready_replicas} of ${one.replicas}`],
        ["Not listed", one.servers_omitted ? `${one.servers_omitted} servers: status names the first 100` : ""]],
      actions: [button(app.action(one.cordoned ? "Uncordon…" : "Cordon…", one.namespace, "cordon", () => app.cordon({ ...one, ollama_node: one.name })), "cordon")],
      about: ["OllamaNode", one.namespace, one.name],
      live: [one, app.me],
    };
  },
  distribution(app, id) {
    const one = app.store.one("distribution", id);
    if (!one) return null;
    const counts = ["desired", "installed", "pulling", "waiting", "failed", "misfit", "drifted"];
    return {
      heading: `ModelDistribution ${one.name}`,
      said: [condition(one), one.suspended ? "It is suspended: nothing is pulled until it is resumed." : ""],
      facts: [["Namespace", one.namespace], ["Models", one.models.join(", ")],
        ...counts.map((field) => [field[0].toUpperCase() + field.slice(1), one[field] ? String(one[field]) : ""]),
        ["Next window", at(one.next_window)]],
      actions: [button(app.action(one.suspended ? "Resume" : "Suspend…", one.namespace, "change", () => app.suspend(one)), "suspend")],
      about: ["ModelDistribution", one.namespace, one.name],
      live: [one, app.me],
    };
  },
  task(app, id) {
    const one = app.store.one("task", id);
    if (!one) return null;
    const failed = one.state === "Failed";
    const cause = one.error ?? one.message;
    return {
      heading: `${one.model_name} on ${serverOf(one)}`,
      said: [
        cause ? `${one.reason ?? one.state}: ${cause}` : one.reason ? `It is ${one.state}: ${one.reason}.` : `It is ${one.state}.`,
        one.drifted ? "Drifted: the server has another digest than is wanted; it is pulled again when its turn comes." : "",
      ],
      facts: [
        ["State", one.state], ["Server", serverOf(one)], ["ModelDistribution", one.distribution], ["Namespace", one.namespace],
        ["Progress", runs(one) ? percent(one.progress) : ""],
        ["Downloaded", one.total_bytes ? `${download(one.completed_bytes) || "0 MB"} of ${download(one.total_bytes)}` : ""],
        ["Speed", rate(one.download_speed_bps)], ["ETA", remaining(one)],
        ["Digest", one.digest ? h("code", {}, one.digest) : ""],
        ["Wanted", one.drifted && one.wanted_digest ? h("code", {}, one.wanted_digest) : ""],
        ["Created", at(one.created_at)], ["Changed", at(one.updated_at)],
      ],
      actions: failed ? [button(app.action("Retry", one.namespace, "change", () => app.retry(one)), "retry")] : [],
      about: ["ModelDistribution", one.namespace, one.distribution],
      live: [one, app.me],
    };
  },
  router(app, id) {
    const one = app.store.one("router", id);
    if (!one) return null;
    const traffic = trafficOf(app.store, id);
    return {
      heading: `Router ${one.name}`,
      said: [condition(one)],
      facts: [["URL", one.url ?? "no address yet"], ["Namespace", one.namespace], ["Replicas ready", `${one.ready_replicas} of ${one.replicas}`],
        ["Servers ready", `${one.servers_ready} of ${one.servers}`], ["Models", one.models.join(", ")],
        ["Requests/s", traffic ? perSecond(traffic.requests_per_second) : ""],
        ["First token p50 / p99", traffic ? both(traffic.first_token_p50_s, traffic.first_token_p99_s) : ""],
        ["Measured over", traffic?.window_s ? span(traffic.window_s) : ""]],
      about: ["Router", one.namespace, one.name],
      live: [one, traffic],
    };
  },
  breaker(app, id, name) {
    const traffic = trafficOf(app.store, id);
    const one = traffic?.servers.find((server) => server.name === name);
    if (!one) return null;
    return {
      heading: `${name}, to the router ${app.store.one("router", id)?.name ?? id}`,
      said: [BREAKERS[one.breaker]],
      facts: [["State", one.state], ["Breaker", one.breaker], ["In flight", String(one.in_flight ?? 0)],
        ["Requests/s", perSecond(one.requests_per_second)], ["Chosen, and why", decided(one) || "not of late"],
        ...(one.decisions ?? []).filter((made) => made.per_second > 0).map((made) => [made.reason, DECISIONS[made.reason] ?? ""])],
      live: [traffic],
    };
  },
  model(app, key) {
    const row = matrix(app.store).find((one) => one.key === key);
    if (!row) return null;
    const digests = new Map(), by = new Set();
    for (const { task } of row.cells.values()) {
      if (task) by.add(task.distribution);
      if (task?.digest) digests.set(task.digest, (digests.get(task.digest) ?? 0) + 1);
    }
    return {
      heading: row.model,
      said: [by.size ? `Wanted by ${[...by].map((one) => `ModelDistribution ${one}`).join(", ")}.` : "No ModelDistribution wants it: it is in memory all the same."],
      facts: [["Namespace", row.namespace], ["Servers", String(row.cells.size)],
        ...[...digests].map(([digest, count]) => [`Digest on ${count}`, h("code", {}, digest)])],
      live: [app.store.changed.task],
    };
  },
  absent(app, id, model) {
    const one = app.store.one("agent", id);
    if (!one) return null;
    const there = (one.models_resident ?? []).some((name) => canonical(name) === model);
    return {
      heading: `${model} on ${one.name}`,
      said: [there ? "It is in memory, though no ModelDistribution wants it there." : "No ModelDistribution wants it there."],
      facts: [],
      actions: [button(app.action("Distribute…", one.namespace, "distribute", () => app.distribute(model, [id])), "distribute")],
      live: [one, app.me],
    };
  },
};

function condition(one) {
  return one.message ? `${one.reason}: ${one.message}` : one.ready ? "It is Ready." : one.reason ?? "";
}

/** What is on a server's disk, asked for when it is wanted. */
function installed(app, id) {
  const told = h("div", { "aria-live": "polite" });
  const ask = h("button", { type: "button", class: "quiet", onclick: async () => {
    ask.disabled = true;
    try {
      const found = await call("GET", `/api/agents/${encodeURIComponent(id)}/models`);
      told.replaceChildren(found.length
        ? h("ul", { class: "history" }, ...found.map((one) => h("li", {}, h("strong", {}, one.name), ` ${one.size_gb.toFixed(1)} GB `, h("code", { title: one.digest }, short(one.digest)))))
        : h("p", { class: "hush" }, "Nothing is installed."));
    } catch (error) {
      told.replaceChildren(h("p", { class: "refusal" }, error.message));
    }
    ask.disabled = false;
  } }, "Show what is installed");
  return h("section", {}, h("h3", {}, "Installed"), ask, told);
}

/** Whether it would fit, asked for at once. */
function fits(app, id, model) {
  const told = h("p", { class: "hush", "aria-live": "polite" }, "Asking whether it would fit…");
  app.fit(model, app.store.one("agent", id)?.namespace).then(
    (found) => put(told, found.verdicts.find((one) => one.agent_id === id)?.message ?? "Nobody knows whether it would fit."),
    (error) => put(told, error.message));
  return told;
}

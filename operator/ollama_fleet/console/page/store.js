// What the page knows of the fleet: events in, state out. Pure: no document, no clock.

import { canonical } from "./format.js";

/** @typedef {{id: string} & Record<string, any>} Item */

/** Kinds of events, each with a Map of its own by id. */
export const KINDS = ["agent", "task", "router", "traffic", "node", "distribution", "event"];
const EVENTS = 1000;

export class Store {
  constructor() {
    /** @type {Record<string, Map<string, Item>>} */
    this.kept = Object.fromEntries(KINDS.map((kind) => [kind, new Map()]));
    /** Grows with each change. */
    this.version = 0;
    /** Whether everything has been seen once. */
    this.synced = false;
    /** @type {Record<string, number>} the version at which a kind last changed */
    this.changed = Object.fromEntries(KINDS.map((kind) => [kind, 0]));
    /** @type {Record<string, number>} the version at which a kind last gained or lost one */
    this.members = Object.fromEntries(KINDS.map((kind) => [kind, 0]));
    this.sorted = new Map();
    this.seen = null;
  }

  /** A connection begins: everything is about to be told again. */
  begin() {
    this.seen = Object.fromEntries(KINDS.map((kind) => [kind, new Set()]));
  }

  /** Take over one event. Objects are replaced, never changed, so that what is the same object is
   * the same state. @param {string} name @param {any} data @returns {boolean} whether it was known */
  take(name, data) {
    if (name === "synced") {
      this.#forget();
      this.synced = true;
      this.version += 1;
      return true;
    }
    const gone = name.endsWith("-removed");
    const kind = gone ? name.slice(0, -"-removed".length) : name;
    const map = this.kept[kind];
    if (!map || typeof data?.id !== "string") return false;
    if (gone) {
      if (map.delete(data.id)) this.#touch(kind, true);
      return true;
    }
    this.seen?.[kind].add(data.id);
    const fresh = !map.has(data.id);
    map.set(data.id, data);
    if (kind === "event" && map.size > EVENTS) map.delete(map.keys().next().value);
    this.#touch(kind, fresh);
    return true;
  }

  /** All of a kind in order, each the latest; kept until one joins or leaves.
   * @param {string} kind @returns {Item[]} */
  all(kind) {
    const found = this.sorted.get(kind);
    if (found?.version === this.changed[kind]) return found.items;
    const map = this.kept[kind];
    let ids = found?.ids;
    if (!ids || found.members !== this.members[kind]) {
      ids = [...map.values()].sort(ORDER[kind] ?? byName).map((one) => one.id);
    }
    const items = ids.map((id) => map.get(id));
    this.sorted.set(kind, { version: this.changed[kind], members: this.members[kind], ids, items });
    return items;
  }

  /** One of a kind. @returns {Item|undefined} */
  one(kind, id) {
    return this.kept[kind].get(id);
  }

  /** What was there before, and was not told again, has gone. */
  #forget() {
    for (const kind of this.seen ? KINDS : []) {
      for (const id of this.kept[kind].keys()) {
        if (!this.seen[kind].has(id) && kind !== "traffic") {
          this.kept[kind].delete(id);
          this.#touch(kind, true);
        }
      }
    }
    this.seen = null;
  }

  #touch(kind, member) {
    this.version += 1;
    this.changed[kind] = this.version;
    if (member || kind === "event") this.members[kind] = this.version;
  }
}

const byName = (one, other) =>
  compare(one.namespace ?? "", other.namespace ?? "") || compare(one.name ?? one.id, other.name ?? other.id);
const ORDER = {
  task: (one, other) => compare(other.created_at, one.created_at) || compare(one.id, other.id),
  event: (one, other) => compare(other.last_seen ?? "", one.last_seen ?? "") || compare(one.id, other.id),
};

function compare(one, other) {
  return one < other ? -1 : one > other ? 1 : 0;
}

const RUNNING = new Set(["Pulling", "Verifying"]);

/** Whether a task is being pulled. */
export const runs = (task) => RUNNING.has(task.state);
/** A server's state as people are told it. */
export const stateOf = (agent) =>
  agent.cordoned && agent.state === "Ready" ? "Cordoned" : agent.state;

/** The fleet in figures; memory in bytes, times in seconds, null where nobody knows.
 * @param {Store} store */
export function heading(store) {
  const agents = store.all("agent"), nodes = store.all("node");
  const sum = (items, field) => items.reduce((total, one) => total + (one[field] ?? 0), 0);
  const traffic = store.all("router").map((one) => trafficOf(store, one.id)).filter(Boolean);
  const total = (field) => (traffic.length ? sum(traffic, field) : null);
  const worst = (field) => {
    const told = traffic.map((one) => one[field]).filter((one) => one != null);
    return told.length ? Math.max(...told) : null;
  };
  return {
    ready: nodes.length ? sum(nodes, "ready_replicas") : agents.filter((one) => one.state === "Ready").length,
    servers: nodes.length ? sum(nodes, "replicas") : agents.length,
    omitted: sum(nodes, "servers_omitted"),
    used: sum(agents, "memory_used_bytes"),
    total: sum(agents, "memory_bytes"),
    active: total("in_flight") ?? sum(agents, "active_requests"),
    rate: total("requests_per_second"),
    tokens: total("tokens_per_second"),
    p50: worst("first_token_p50_s"),
    p99: worst("first_token_p99_s"),
    queued: total("queued"),
    routers: store.all("router").length,
  };
}

/** The latest figures of a router, if there are any. */
export function trafficOf(store, id) {
  return store.one("traffic", id) ?? store.one("router", id)?.traffic ?? null;
}

/** What waits for a person, each with what to do: `{key, kind, id, what, reason, message}`.
 * @param {Store} store */
export function attention(store) {
  const rows = [];
  const add = (kind, one, what, reason, message) =>
    rows.push({ key: `${kind} ${one.id}`, kind, id: one.id, namespace: one.namespace, what, reason, message });
  const kinds = [["node", "OllamaNode"], ["distribution", "ModelDistribution"], ["router", "Router"]];
  for (const [kind, title] of kinds) {
    for (const one of store.all(kind)) {
      if (one.stalled) add(kind, one, `${title} ${one.name}`, one.reason, one.message ?? "");
    }
  }
  const told = rows.map((row) => row.message).join(" ");
  for (const one of store.all("agent")) {
    if (one.state !== "Ready" && one.message && !told.includes(one.message)) {
      add("agent", one, `server ${one.name}`, one.state, one.message);
    }
  }
  for (const one of store.all("task")) {
    if ((one.state === "Failed" || one.state === "Misfit") && !told.includes(one.message ?? "")) {
      add("task", one, `${one.model_name} on ${serverOf(one)}`, one.reason ?? one.state, one.message);
    }
  }
  return rows;
}

/** The server's name in a task. */
export function serverOf(task) {
  return task.agent_id.slice(task.agent_id.indexOf(".") + 1);
}

/** Models by servers: rows `{key, namespace, model, cells}`, `cells` a Map by agent id of
 * `{word, task}`. Known are models that a ModelDistribution wants, and those in memory.
 * @param {Store} store */
export function matrix(store) {
  const rows = new Map();
  const cells = (namespace, model) => {
    const key = `${namespace} ${model.toLowerCase()}`;
    if (!rows.has(key)) rows.set(key, { key, namespace, model, cells: new Map() });
    return rows.get(key).cells;
  };
  for (const task of store.all("task")) {
    const row = cells(task.namespace, task.model_name);
    if (!row.has(task.agent_id)) row.set(task.agent_id, { task, resident: false });
  }
  for (const agent of store.all("agent")) {
    for (const model of agent.models_resident ?? []) {
      const row = cells(agent.namespace, canonical(model));
      row.set(agent.id, { task: row.get(agent.id)?.task ?? null, resident: true });
    }
  }
  return [...rows.values()].sort((one, other) => compare(one.key, other.key));
}

// The dashboard: signs in, follows the fleet, shows one page of it at a time.
import { ask, call, path, Refused, token } from "./api.js";
import { confirm, dialog } from "./dialog.js";
import { action, h, mark, put } from "./dom.js";
import { counted } from "./format.js";
import { serverOf, Store } from "./store.js";
import { follow } from "./stream.js";
import { dressed } from "./theme-switch.js";
import * as events from "./views/events.js";
import * as models from "./views/models.js";
import * as overview from "./views/overview.js";
import * as pulls from "./views/pulls.js";
import * as routers from "./views/routers.js";
import * as servers from "./views/servers.js";

const PAGES = { "": overview, models, servers, pulls, routers, events };
const KEYS = [
  ["/", "filter what is shown"], ["1 … 6", "go to a page"], ["d", "distribute a model"], ["t", "change the theme"],
  ["arrows, Home, End", "go through models × servers"], ["Enter", "why is it so?"], ["Escape", "close, or clear the filter"], ["?", "these keys"],
];
const NEEDS = {
  cordon: "patch ollamanodes", distribute: "create modeldistributions", change: "patch modeldistributions",
};
const barred = (sentence) => dialog("Not allowed").body.append(h("p", { class: "said" }, sentence));
const at = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** What the pages are given. */
export class App {
  constructor() {
    this.store = new Store();
    /** Who is signed in; null where the console did not tell. */
    this.me = null;
    this.view = null;
    this.watched = null;
    this.following = null;
    this.drawing = 0;
    this.spoken = [];
    this.heard = 0;
  }

  // what may be done

  /** Namespaces with a fleet, in order. @returns {string[]} */
  namespaces() {
    const told = this.me?.namespaces?.map((one) => one.namespace) ?? [];
    const version = this.store.members.agent;
    if (this.spaces?.version !== version || this.spaces.me !== this.me) {
      const names = [...new Set([...told, ...this.store.all("agent").map((one) => one.namespace)])].sort();
      this.spaces = { version, me: this.me, names };
    }
    return this.spaces.names;
  }

  /** Null where a thing may be done there, else why not. @param {"cordon"|"distribute"|"change"} what */
  may(namespace, what) {
    if (!this.me) return null;
    if (this.me.anonymous) return "Without a token the fleet can be looked at, and not changed: sign in.";
    const there = this.me.namespaces.find((one) => one.namespace === namespace);
    if (!there || there[what]) return null;
    return `${this.me.name} may not ${NEEDS[what]} in namespace ${namespace}. Ask for the ClusterRole ollama-fleet-editor to be bound to you there.`;
  }

  /** A button, barred where it may not be done. */
  action(label, namespace, what, act) {
    const made = action(label, act, barred);
    made.update(this.may(namespace, what));
    return made;
  }

  /** Cells with a button that turns something on or off. */
  switcher(isOn, { on, off, what, act }) {
    return () => {
      let item = null;
      const made = action("", () => act(item), barred);
      return {
        node: made.node,
        update: (next) => {
          item = next;
          put(made.node, isOn(item) ? on : off);
          made.update(this.may(item.namespace, what));
        },
      };
    };
  }

  /** A cell's button for tasks that were given up. */
  retryButton() {
    let task = null;
    const made = action("Retry", () => this.retry(task), barred);
    return {
      node: made.node,
      update: (next) => {
        task = next;
        made.node.hidden = task.state !== "Failed";
        made.update(this.may(task.namespace, "change"));
      },
    };
  }

  // what is done; what comes of it is told by the stream alone, as an answer may be the older one

  // these two are large, and nobody needs them before the first paint
  async why(kind, id, more) {
    (await import("./why.js")).why(this, kind, id, more);
  }

  async distribute(model, ids) {
    (await import("./distribute.js")).distribute(this, model, ids);
  }

  /** @returns {Promise<any>} the verdict for each server */
  fit(model, namespace, signal) {
    return call("GET", path("/api/fit", { model, namespace }), undefined, signal);
  }

  cordon(agent) {
    const id = `${agent.namespace}.${agent.ollama_node}`;
    const cordoned = this.store.one("node", id)?.cordoned ?? agent.cordoned;
    const meant = this.store.all("agent").filter((one) => one.namespace === agent.namespace && one.ollama_node === agent.ollama_node);
    confirm({
      heading: `${cordoned ? "Uncordon" : "Cordon"} OllamaNode ${agent.ollama_node}?`,
      said: [
        cordoned ? "Its servers take new requests and pulls again:" : "No new requests and no pulls for its servers; what is under way ends as it would:",
        h("ul", { class: "meant" }, ...meant.slice(0, 100).map((one) => h("li", {}, one.name))),
      ],
      label: cordoned ? "Uncordon" : "Cordon",
      act: async () => {
        await ask("PATCH", `/api/nodes/${encodeURIComponent(id)}`, { cordoned: !cordoned });
        this.say(`OllamaNode ${agent.ollama_node} is ${cordoned ? "uncordoned" : "cordoned"}.`);
      },
    });
  }

  suspend(one) {
    const suspended = !one.suspended;
    confirm({
      heading: `${suspended ? "Suspend" : "Resume"} ModelDistribution ${one.name}?`,
      said: [suspended ? "Nothing more is pulled for it until it is resumed; what is installed stays." : "It pulls again what is missing.",
        `Models: ${one.models.join(", ")}`],
      label: suspended ? "Suspend" : "Resume",
      act: async () => {
        await ask("PATCH", `/api/distributions/${encodeURIComponent(one.id)}`, { suspended });
        this.say(`ModelDistribution ${one.name} is ${suspended ? "suspended" : "resumed"}.`);
      },
    });
  }

  retry(task) {
    const what = `${task.model_name} on ${serverOf(task)}`;
    confirm({
      heading: `Try ${what} again?`,
      said: [task.error ?? task.message ?? "It was given up."],
      label: "Retry",
      act: async () => {
        await ask("POST", `/api/tasks/${encodeURIComponent(task.id)}/retry`);
        this.say(`${what} is tried again.`);
      },
    });
  }

  // what is shown

  /** Have it told in words. */
  say(sentence) {
    this.spoken.push(sentence);
    this.redraw();
  }

  /** Look after a dialog's content; nothing more after null. @param {(() => void)|null} draw */
  watch(draw) {
    this.watched = draw;
  }

  /** Show what has changed, once with the next frame. */
  redraw(all = false) {
    if (all) this.view?.stale?.();
    if (this.drawing) return;
    this.drawing = requestAnimationFrame(() => {
      this.drawing = 0;
      if (this.store.synced) this.view?.show();
      this.watched?.();
      if (this.spoken.length) {
        put(at("polite"), this.spoken.length > 3 ? `${counted(this.spoken.length, "pull")} changed: see Pulls.` : this.spoken.join(" "));
        this.spoken = [];
      }
    });
  }

  /** The page of the address. */
  turn() {
    if (location.hash.startsWith("#token=")) {
      token.set(decodeURIComponent(location.hash.slice("#token=".length)).trim());
      history.replaceState(null, "", "/#/");
      this.start();
      return;
    }
    const name = location.hash.replace(/^#\/?/, "");
    const page = PAGES[name] ?? overview;
    for (const link of at("nav").querySelectorAll("a")) {
      mark(link, "aria-current", link.hash === `#/${PAGES[name] ? name : ""}` ? "page" : null);
    }
    document.title = `${page.title} · ollama-fleet`;
    if (!this.following || !this.store.synced) return;
    for (const open of document.querySelectorAll("dialog[open]")) open.close();
    this.page = page;
    this.made = this.namespaces().length > 1;
    this.view = page.make(this);
    at("main").replaceChildren(this.view.node);
    this.view.show();
    scrollTo(0, 0);
  }

  // whose it is

  /** Follow the fleet from the start, as whoever is signed in. */
  async start() {
    this.stop();
    at("main").replaceChildren(h("p", { class: "hush" }, "Loading the fleet…"));
    this.following = follow({
      begin: () => this.store.begin(),
      event: (name, data) => this.hear(name, data),
      state: (told) => this.linked(told),
      refused: (error) => this.refused(error),
    });
  }

  stop() {
    this.following?.stop();
    this.following = null;
    this.store = new Store();
    this.me = null;
    this.view = null;
    clearInterval(this.counting);
    at("nav").hidden = true;
    at("lost").hidden = true;
    put(at("link"), "");
    put(at("who"), "");
    at("sign").hidden = true;
    for (const open of document.querySelectorAll("dialog[open]")) open.close();
  }

  hear(name, data) {
    this.heard = Date.now();
    if (name === "task" && this.store.synced && !this.store.seen) this.tellOf(data);
    this.store.take(name, data);
    if (name === "synced") {
      at("nav").hidden = false;
      if (!this.view) this.turn();
      this.identify();
    } else if (this.view && this.made !== this.namespaces().length > 1) {
      this.turn();
    }
    this.redraw();
  }

  /** What the CLI would print of a pull that begins or ends. */
  tellOf(task) {
    const before = this.store.one("task", task.id)?.state;
    if (before === task.state) return;
    const what = `${serverOf(task)}: ${task.model_name}`;
    if (task.state === "Pulling") this.spoken.push(`${serverOf(task)}: pulling ${task.model_name}.`);
    else if (task.state === "Installed" && before) this.spoken.push(`${what} is installed.`);
    else if (task.state === "Failed") this.spoken.push(`${what} failed.`);
  }

  async identify() {
    try {
      this.me = await call("GET", "/api/me");
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.me = null;
    }
    const anonymous = this.me ? this.me.anonymous : !token.get();
    put(at("who"), anonymous ? "Nobody in particular" : (this.me?.name ?? "").replace(/^system:serviceaccount:/, ""));
    mark(at("who"), "title", this.me?.name || null);
    at("sign").hidden = false;
    put(at("sign"), token.get() ? "Sign out" : "Sign in");
    if (this.view) this.redraw(true);
  }

  /** @param {{state: string, again?: number, why?: string}} told */
  linked({ state, again, why: cause }) {
    clearInterval(this.counting);
    mark(document.documentElement, "data-link", state);
    put(at("link"), state === "live" ? "Live" : state === "lost" ? "Lost" : "Connecting");
    const lost = at("lost");
    if (state === "live") lost.hidden = true;
    if (state !== "lost") return;
    const text = h("span"), wait = h("span", { "aria-hidden": "true" });
    const since = this.heard ? ` What is shown is as of ${new Date(this.heard).toLocaleTimeString()}.` : "";
    text.textContent = `The connection is lost.${cause ? ` ${cause}` : ""}${since}`;
    lost.replaceChildren(text, " ", wait, " ", h("button", { type: "button", class: "quiet", onclick: () => this.following?.again() }, "Try now"));
    lost.hidden = false;
    const tick = () => put(wait, `Trying again in ${Math.max(0, Math.ceil((again - Date.now()) / 1000))} s.`);
    tick();
    this.counting = setInterval(tick, 1000);
  }

  /** What trying again would not mend: the token, or what it may. @param {Refused} error */
  refused(error) {
    const had = token.get();
    this.stop();
    if (error.status === 401) token.forget();
    this.signIn(error.status === 401 && !had ? "" : error.message, error.status === 403);
  }

  signIn(sentence, known = false) {
    this.stop();
    mark(document.documentElement, "data-link", null);
    const input = h("input", { id: "token", type: "password", autocomplete: "off", spellcheck: "false", required: true, "aria-describedby": "how" });
    const form = h("form", { class: "signin", onsubmit: (event) => {
      event.preventDefault();
      token.set(input.value.trim());
      this.start();
    } },
    h("h1", {}, "Sign in"),
    sentence && h("p", { class: "refusal", role: "alert" }, sentence),
    h("label", { for: "token" }, "Kubernetes bearer token"), input,
    h("p", { id: "how", class: "hush" }, "What its owner may do with kubectl, they may do here. ", h("code", {}, "kubectl create token NAME"),
      " makes one for a service account. It is kept in this tab alone, until you sign out or close it."),
    h("div", { class: "actions" }, h("button", { type: "submit", class: "main" }, "Sign in"),
      known && h("button", { type: "button", class: "quiet", onclick: () => this.signOut() }, "Sign out")));
    at("main").replaceChildren(form);
    document.title = "Sign in · ollama-fleet";
    input.focus();
  }

  signOut() {
    token.forget();
    this.signIn("");
  }
}

/** Keys of the whole page; those of text fields are theirs. */
function keys(app, dress) {
  const open = () => {
    const { body } = dialog("Keys");
    body.append(h("dl", { class: "facts keys" }, ...KEYS.map(([key, does]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, does)))));
  };
  at("keys").addEventListener("click", open);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.closest?.("input, select, textarea");
    if (typing) {
      if (event.key === "Escape" && typing.id === "filter" && typing.value) {
        typing.value = "";
        typing.dispatchEvent(new Event("input"));
      }
      return;
    }
    if (document.querySelector("dialog[open]")) return;
    const page = Object.keys(PAGES)[Number(event.key) - 1];
    if (event.key === "?") open();
    else if (event.key === "/" && document.getElementById("filter")) at("filter").focus();
    else if (event.key === "t") dress();
    else if (event.key === "d" && app.view) app.distribute();
    else if (page !== undefined && app.view) location.hash = `#/${page}`;
    else return;
    event.preventDefault();
  });
}

function begin() {
  const app = new App();
  at("nav").append(...Object.entries(PAGES).map(([name, page]) => h("a", { href: `#/${name}` }, page.title)));
  at("sign").addEventListener("click", () => (token.get() ? app.signOut() : app.signIn("")));
  addEventListener("hashchange", () => app.turn());
  keys(app, dressed(at("theme")));
  setInterval(() => app.redraw(true), 10000);
  app.turn();
  if (!app.following) app.start();
}

begin();

// Dialogs: one at a time, closed by Escape, by their button, or by a click beside them.
import { h } from "./dom.js";

/** @param {string} heading @param {{wide?: boolean, closed?: () => void}} [given] */
export function dialog(heading, { wide = false, closed } = {}) {
  const titled = h("h2", { id: "dialog-title" }, heading);
  const close = h("button", { type: "button", class: "quiet icon", "aria-label": "Close", onclick: () => node.close() }, "×");
  const body = h("div", { class: "body" });
  const node = h("dialog", { "aria-labelledby": "dialog-title", class: wide ? "large" : null }, h("div", { class: "head" }, titled, close), body);
  node.addEventListener("click", (event) => {
    if (event.target === node) node.close();
  });
  node.addEventListener("close", () => {
    node.remove();
    closed?.();
  });
  for (const open of document.querySelectorAll("dialog[open]")) open.close();
  document.body.append(node);
  node.showModal();
  return { node, body, titled };
}

/** Ask before something is done. `act` may be refused: then its sentence is shown.
 * @param {{heading: string, said: (string|Node)[], label: string, act: () => Promise<void>}} given */
export function confirm({ heading, said, label, act }) {
  const { node, body } = dialog(heading);
  const refusal = h("p", { class: "refusal", role: "alert", hidden: true });
  const go = h("button", { type: "button", class: "main", onclick: async () => {
    go.disabled = true;
    refusal.hidden = true;
    try {
      await act();
      node.close();
    } catch (error) {
      refusal.textContent = error.message;
      refusal.hidden = false;
      go.disabled = false;
    }
  } }, label);
  const leave = h("button", { type: "button", class: "quiet", onclick: () => node.close() }, "Leave it");
  body.append(...said.map((one) => (typeof one === "string" ? h("p", {}, one) : one)), refusal, h("div", { class: "actions" }, go, leave));
  go.focus();
}

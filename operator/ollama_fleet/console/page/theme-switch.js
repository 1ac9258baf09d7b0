// Light, dark, or as the system has it.
const ORDER = ["system", "light", "dark"];
const SIGNS = { system: "◐", light: "○", dark: "●" };

/** Make a button the switch. @param {HTMLElement} button @returns {() => void} switches on */
export function dressed(button) {
  let now = document.documentElement.dataset.theme ?? "system";
  const show = () => {
    button.textContent = SIGNS[now];
    button.setAttribute("aria-label", `Theme: ${now}`);
    button.title = `Theme: ${now}`;
  };
  const next = () => {
    now = ORDER[(ORDER.indexOf(now) + 1) % ORDER.length];
    if (now === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = now;
    try {
      if (now === "system") localStorage.removeItem("theme");
      else localStorage.setItem("theme", now);
    } catch {
      // storage may be forbidden: the choice holds until the page is closed
    }
    show();
  };
  button.addEventListener("click", next);
  show();
  return next;
}

// The toggle between light and dark: the system's choice, until the reader makes one.
import { $ } from "./page.js";

function dark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function name() {
  $("theme").textContent = dark() ? "Light theme" : "Dark theme";
}

export function theme() {
  $("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = dark() ? "light" : "dark";
    try {
      localStorage.setItem("theme", document.documentElement.dataset.theme);
    } catch {
      // a browser that keeps nothing: the choice lasts as long as the page
    }
    name();
  });
  try {
    const kept = localStorage.getItem("theme");
    if (kept === "dark" || kept === "light") document.documentElement.dataset.theme = kept;
  } catch {
    // as above
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
  name();
}

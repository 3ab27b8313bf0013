"use strict";
const root = document.documentElement;
root.classList.add("js");
const stored = (name, value) => {
  try { if (value) localStorage.setItem(name, value); return localStorage.getItem(name); } catch { return null; }
};
const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
if (["light", "dark"].includes(stored("premiere-theme"))) root.dataset.theme = stored("premiere-theme");
addEventListener("DOMContentLoaded", () => {
  const button = document.getElementById("theme");
  const label = () => { button.textContent = isDark() ? "Light" : "Dark"; };
  button.onclick = () => { root.dataset.theme = isDark() ? "light" : "dark"; stored("premiere-theme", root.dataset.theme); label(); };
  label();
  // What scrolls can be reached with the keyboard; what does not is no stop on the way.
  const boxes = document.querySelectorAll(".scroll, pre");
  const reach = () => { for (const box of boxes) if (box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight) box.tabIndex = 0; else box.removeAttribute("tabindex"); };
  new ResizeObserver(reach).observe(document.body);
  document.addEventListener("toggle", reach, true);
});

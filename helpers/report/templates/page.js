addEventListener("DOMContentLoaded", () => {
  const button = document.getElementById("code");
  button.onclick = () => {
    const on = root.toggleAttribute("data-code");
    for (const details of document.querySelectorAll("details.code")) details.open = on;
    button.setAttribute("aria-pressed", on);
    button.textContent = on ? "Hide code" : "Show code";
  };
  if (matchMedia("(max-width: 62rem)").matches) for (const details of document.querySelectorAll(".side details")) details.open = false;
});

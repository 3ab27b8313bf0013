addEventListener("DOMContentLoaded", () => {
  const button = document.getElementById("code");
  if (button) button.onclick = () => {
    const on = root.toggleAttribute("data-code");
    for (const details of document.querySelectorAll("details.code")) details.open = on;
    button.setAttribute("aria-pressed", on);
    button.textContent = on ? "Hide code" : "Show code";
  };
  // Columns of text read from the left; pandas does not say which they are.
  for (const table of document.querySelectorAll("table.dataframe")) {
    const rows = [...table.tBodies].flatMap(body => [...body.rows]), width = rows[0]?.cells.length ?? 0;
    for (let column = 0; column < width; column++) {
      if (rows.some(row => /\p{L}{2}/u.test(row.cells[column]?.textContent.replace(/NaN|None|True|False|inf/g, "") ?? "")))
        for (const row of table.rows) if (row.cells.length === width) row.cells[column]?.classList.add("words");
    }
  }
  if (matchMedia("(max-width: 73rem)").matches) for (const details of document.querySelectorAll(".side details")) details.open = false;
});

addEventListener("DOMContentLoaded", () => {
  const $ = id => document.getElementById(id);
  const pages = new Map(JSON.parse($("pages").textContent).map(page => [page.id, page]));
  const items = [...document.querySelectorAll(".run li")];
  const filter = () => {
    const words = $("find").value.toLowerCase().split(/\s+/);
    let shown = 0;
    for (const item of items) {
      const fits = name => !$(name).value || item.dataset[name] === $(name).value;
      item.hidden = !(words.every(word => item.dataset.text.includes(word)) && ["decision", "launch", "status"].every(fits));
      item.style.display = item.hidden ? "none" : "";
      shown += !item.hidden;
    }
    for (const run of document.querySelectorAll(".run")) run.hidden = !run.querySelector("li:not([hidden])");
    $("count").textContent = `${shown} of ${items.length} shown`;
  };
  for (const name of ["find", "decision", "launch", "status"]) $(name).addEventListener("input", filter);
  document.querySelector(".filters").addEventListener("submit", event => event.preventDefault());
  filter();

  const make = (tag, text = "", attributes = {}) => {
    const element = document.createElement(tag);
    element.textContent = text;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };
  const drawing = (...estimates) => {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg"), width = 180;
    for (const [name, value] of Object.entries({ width, height: 34, viewBox: `0 0 ${width} 34`, "aria-hidden": true })) svg.setAttribute(name, value);
    const reach = 1.1 * Math.max(...estimates.flatMap(e => e ? e.ends.map(Math.abs) : [0])) || 1;
    const x = value => width / 2 * (1 + value / reach);
    const add = (tag, attributes) => {
      const shape = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [name, value] of Object.entries(attributes)) shape.setAttribute(name, value);
      svg.append(shape);
    };
    add("line", { class: "zero", x1: x(0), x2: x(0), y1: 0, y2: 34 });
    estimates.forEach((estimate, i) => {
      if (!estimate) return;
      const [low, middle, high] = estimate.ends, y = 10 + 14 * i;
      add("line", { class: `s${i + 1}`, x1: x(low), x2: x(high), y1: y, y2: y });
      add("circle", { class: `s${i + 1}`, cx: x(middle), cy: y, r: 4 });
    });
    return svg;
  };
  const compare = (one, two) => {
    const table = make("table"), head = table.createTHead().insertRow(), body = table.createTBody();
    head.append(make("th", "Compared", { scope: "col" }));
    [one, two].forEach((page, i) => {
      const column = make("th", page.run, { scope: "col", class: `s${i + 1}` });
      column.append(make("small", page.notebook));
      head.append(column);
    });
    head.append(make("th", "Drawing", { scope: "col" }));
    const row = (title, under, a, b, picture = "") => {
      const line = body.insertRow(), name = make("th", title, { scope: "row" });
      if (under) name.append(make("small", under));
      line.append(name);
      for (const [value, small] of [a, b]) {
        const cell = line.insertCell();
        cell.append(value ?? "–");
        if (small) cell.append(make("small", small));
      }
      line.insertCell().append(picture);
    };
    const same = [];
    const fact = (title, under, a, b) => a === b ? same.push(title) : row(title, under, [a], [b]);
    row("Decision", "", [one.decision ?? one.status], [two.decision ?? two.status]);
    fact("Notebook", "", one.title, two.title);
    fact("Launch", "", one.launch_title, two.launch_title);
    fact("Launch file", "content hash", one.launch_hash, two.launch_hash);
    fact("Data", "hash", one.data_hash, two.data_hash);
    for (const name of new Set([...Object.keys(one.parameters), ...Object.keys(two.parameters)])) fact(name, "parameter", one.parameters[name], two.parameters[name]);
    const [first, second] = [one, two].map(page => new Map(page.estimates.map(e => [e.key, e])));
    for (const key of new Set([...first.keys(), ...second.keys()])) {
      const [a, b] = [first.get(key), second.get(key)], words = e => e ? [e.change, e.interval] : [];
      row((a ?? b).title, (a ?? b).unit, words(a), words(b), drawing(a, b));
    }
    const box = make("div", "", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Comparison of two reports" });
    box.append(table);
    $("comparison").replaceChildren(make("h2", "Comparison"), box, make("p", same.length ? `The same in both: ${same.join(", ")}.` : ""));
    $("comparison").hidden = false;
    $("comparison").focus();
  };
  const ticked = () => items.filter(item => item.querySelector("input").checked).map(item => item.dataset.id);
  const update = () => { $("compare").disabled = ticked().length !== 2; };
  for (const item of items) item.querySelector("input").addEventListener("change", update);
  $("compare").onclick = () => {
    const [newer, older] = ticked();
    history.replaceState(null, "", "#compare=" + [older, newer].map(encodeURIComponent).join(","));
    compare(pages.get(older), pages.get(newer));
  };
  const asked = location.hash.match(/^#compare=([^,]+),([^,]+)$/)?.slice(1).map(id => pages.get(decodeURIComponent(id)));
  if (asked?.every(Boolean)) compare(...asked);
});

"use strict";
(() => {
  const data = (id) => JSON.parse(document.getElementById(id).textContent);
  const made = (tag, text, name) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (name) element.className = name;
    return element;
  };
  const table = document.getElementById("leaderboard-table");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const opened = new Map();

  // sorting: by what a cell stands for; empty ones last whichever way
  const value = (row, column) => row.cells[column].dataset.value;
  const order = (one, other, sign, numbers) => {
    if (one === "" || other === "") return (one === "") - (other === "");
    return sign * (numbers ? Number(one) - Number(other) : one.localeCompare(other));
  };
  for (const button of table.tHead.querySelectorAll("button")) {
    button.addEventListener("click", () => {
      const head = button.parentElement;
      const ascending = head.getAttribute("aria-sort") !== "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const [column, sign, numbers] = [Number(button.dataset.column), ascending ? 1 : -1, head.classList.contains("number")];
      rows.sort((one, other) => order(value(one, column), value(other, column), sign, numbers));
      for (const row of rows) body.append(row, ...(opened.has(row) ? [opened.get(row)] : []));
    });
  }

  // filtering
  const search = document.getElementById("leaderboard-search");
  const status = document.getElementById("leaderboard-status");
  const kind = document.getElementById("leaderboard-kind");
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const fits = words.every((word) => text.includes(word)) &&
        (!status.value || row.dataset.status === status.value) && (!kind.value || row.dataset.kind === kind.value);
      row.hidden = !fits;
      if (opened.has(row)) opened.get(row).hidden = !fits;
      shown += fits;
    }
    document.getElementById("leaderboard-count").textContent = `${shown} of ${rows.length} trials`;
  };
  for (const input of [search, status, kind]) for (const event of ["input", "change"]) input.addEventListener(event, filter);
  document.getElementById("leaderboard-filters").addEventListener("submit", (event) => event.preventDefault());

  // a trial opened: its configuration and its curves
  const trials = data("trials");
  const SVG = "http://www.w3.org/2000/svg";
  const drawn = (name, attributes, text) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, given] of Object.entries(attributes)) element.setAttribute(key, given);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const LOOKS = { train_loss: ["#d55e00", "6 3"], log_loss: ["#0072b2", ""], balanced_accuracy: ["#009e73", "2 2"], auc: ["#cc79a7", "8 2 2 2"] };
  const curves = (given) => {
    const [width, height, left, top] = [420, 230, 34, 48];
    const names = Object.keys(LOOKS).filter((name) => (given[name] || []).some((one) => one !== null));
    const count = Math.max(...names.map((name) => given[name].length));
    const most = Math.max(1, ...names.flatMap((name) => given[name].filter((one) => one !== null)));
    const picture = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Curves over ${count} epochs` });
    const x = (index) => left + (width - left - 8) * (count > 1 ? index / (count - 1) : 0.5);
    const y = (one) => height - 24 - (height - 24 - top) * one / most;
    for (const tick of [0, most / 2, most]) {
      picture.append(drawn("line", { x1: left, x2: width - 8, y1: y(tick), y2: y(tick), stroke: "var(--line)" }));
      picture.append(drawn("text", { x: left - 4, y: y(tick) + 4, "text-anchor": "end", "font-size": 11, fill: "currentColor" }, tick.toFixed(2)));
    }
    picture.append(drawn("text", { x: width - 8, y: height - 6, "text-anchor": "end", "font-size": 11, fill: "currentColor" }, `epoch ${count}`));
    picture.append(drawn("text", { x: left, y: height - 6, "font-size": 11, fill: "currentColor" }, "epoch 1"));
    names.forEach((name, number) => {
      const [colour, dashes] = LOOKS[name];
      const points = given[name].map((one, index) => (one === null ? null : `${x(index)},${y(one)}`)).filter(Boolean);
      const dot = points.length === 1 ? points[0].split(",") : null;
      picture.append(dot ? drawn("circle", { cx: dot[0], cy: dot[1], r: 3, fill: colour })
        : drawn("polyline", { points: points.join(" "), fill: "none", stroke: colour, "stroke-width": 2, "stroke-dasharray": dashes }));
      const [column, line] = [number % 2, Math.floor(number / 2)];
      const at = left + column * 190;
      picture.append(drawn("line", { x1: at, x2: at + 26, y1: 12 + 18 * line, y2: 12 + 18 * line, stroke: colour, "stroke-width": 2, "stroke-dasharray": dashes }));
      picture.append(drawn("text", { x: at + 32, y: 16 + 18 * line, "font-size": 12, fill: "currentColor" }, name.replace("_", " ")));
    });
    return names.length ? picture : made("p", "no curves");
  };
  for (const button of body.querySelectorAll(".open")) {
    const row = button.closest("tr");
    button.setAttribute("aria-label", `Trial ${button.textContent}: show configuration and curves`);
    button.addEventListener("click", () => {
      const open = button.getAttribute("aria-expanded") !== "true";
      button.setAttribute("aria-expanded", String(open));
      if (!open) {
        opened.get(row).remove();
        opened.delete(row);
        return;
      }
      const trial = trials[row.dataset.trial];
      const inside = made("div", undefined, "opened");
      const indent = new RegExp(`^${/^ */.exec(trial.configuration)[0]}`, "gm");
      const configuration = made("pre", trial.configuration.replace(indent, ""));
      configuration.tabIndex = 0;
      inside.append(configuration, curves(trial.curves));
      const cell = made("td");
      cell.colSpan = row.cells.length;
      cell.append(inside);
      const below = made("tr", undefined, "below");
      below.append(cell);
      opened.set(row, below);
      row.after(below);
    });
  }
})();

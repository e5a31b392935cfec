"use strict";
// Sorts a table by a column: by our values or the paper's, whichever are more, else as text.
for (const button of document.querySelectorAll("table.sortable button.sort")) {
  const heading = button.closest("th");
  const table = button.closest("table");
  const column = [...heading.parentNode.children].indexOf(heading);
  const bodies = [...table.tBodies].filter((body) => body.className !== "rows-control");
  const cellsOf = (name) =>
    bodies.flatMap((body) => [...body.rows]).filter((row) => row.cells[column]?.dataset[name]);
  const [here, paper] = [cellsOf("here").length, cellsOf("paper").length];
  const source = here + paper === 0 ? "text" : here >= paper ? "here" : "paper";
  const basis = { here: "measured value", paper: "paper’s value", text: "name" }[source];
  button.title = `Sort by ${basis}`;
  const key = (row) => {
    const cell = row.cells[column];
    return source === "text" ? cell?.textContent.trim() : cell?.dataset[source];
  };
  button.addEventListener("click", () => {
    const up = heading.getAttribute("aria-sort") !== "ascending";
    for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", up ? "ascending" : "descending");
    for (const body of bodies) {
      const rows = [...body.rows].sort((first, second) => {
        const [a, b] = [key(first), key(second)];
        if (!a || !b) return a ? -1 : b ? 1 : 0; // rows without a value stay last
        const order = source === "text" ? a.localeCompare(b) : Number(a) - Number(b);
        return up ? order : -order;
      });
      body.append(...rows);
    }
  });
}
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details")) part.open = true;
});

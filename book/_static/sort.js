// A heading of a table is a button: it sorts the rows by its column, pressed again the other way.
document.addEventListener("DOMContentLoaded", () => {
  // A number may have a sign, thousands and something after a space: "−1,234.5 (at 512)".
  const pattern = /^[+−-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?(?![^\s%])/;

  const number = (text) => {
    const found = text.match(pattern);
    return found ? parseFloat(found[0].replaceAll(",", "").replace("−", "-")) : NaN;
  };

  // Words stay below numbers in both directions.
  const compare = (a, b, direction) => {
    const [x, y] = [number(a), number(b)];
    const words = Number.isNaN(x) - Number.isNaN(y);
    return words || direction * (Number.isNaN(x) ? a.localeCompare(b) : x - y);
  };

  const sort = (header) => {
    const table = header.closest("table");
    const ascending = header.getAttribute("aria-sort") !== "ascending";
    table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const text = (row) => row.cells[header.cellIndex].textContent.trim();
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => compare(text(a), text(b), ascending ? 1 : -1));
    table.tBodies[0].append(...rows);
  };

  document.querySelectorAll("table.sortable thead th").forEach((header) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "Sort";
    button.append(...header.childNodes);
    button.addEventListener("click", () => sort(header));
    header.append(button);
  });
});

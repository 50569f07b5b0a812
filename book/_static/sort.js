// A click on a heading of a table sorts it by that column, a second click the other way.
document.addEventListener("DOMContentLoaded", () => {
  const number = (text) => parseFloat(text.replace(/,/g, "").replace("−", "-"));

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
    header.tabIndex = 0;
    header.addEventListener("click", () => sort(header));
    header.addEventListener("keydown", (event) => {
      if (event.key === "Enter") {
        sort(header);
      }
    });
  });
});

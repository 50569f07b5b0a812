// What the theme leaves without a name, and what scrolls, for readers without eyes or mouse.
document.addEventListener("DOMContentLoaded", () => {
  const reach = (element, name) => {
    element.tabIndex = 0;
    element.setAttribute("role", "region");
    element.setAttribute("aria-label", name);
  };

  document.querySelectorAll(".pst-scrollable-table-container").forEach((container) => {
    const caption = container.querySelector("caption .caption-number");
    reach(container, caption?.textContent.trim() || "Table");
  });
  document.querySelectorAll(".bd-article div.math").forEach((formula) => reach(formula, "Formula"));
  document.querySelectorAll(".bd-docs-nav summary").forEach((summary) => {
    const page = summary.closest("li").querySelector("a");
    summary.setAttribute("aria-label", `Pages under ${page.textContent.trim()}`);
  });
});

// In a published book: its version in the sidebar, and the way to the same page of the others.
// The site lists them in a script, since a page opened from a disk may not fetch a JSON file.
{
  const own = document.currentScript;
  const here = own.dataset.version;
  const book = new URL("..", own.src);
  const site = new URL("..", book);

  const link = (href, text) => {
    const anchor = document.createElement("a");
    anchor.href = href;
    anchor.textContent = text;
    return anchor;
  };

  const show = (versions) => {
    const page = window.location.pathname.slice(book.pathname.length);
    const list = document.createElement("ul");
    const add = (anchor) => {
      const item = document.createElement("li");
      item.append(anchor);
      list.append(item);
      return anchor;
    };
    for (const { version, pages } of versions) {
      const goal = pages.includes(page) ? page : "index.html";
      const anchor = add(link(new URL(`${version}/${goal}`, site), version));
      if (version === here) anchor.setAttribute("aria-current", "true");
    }
    const { pdf } = versions.find(({ version }) => version === here) ?? {};
    if (pdf) add(link(new URL(pdf, book), "PDF of this version"));
    add(link(new URL("index.html", site), "All versions"));

    const summary = document.createElement("summary");
    const newest = versions[0].version;
    summary.textContent = `Version ${here}` + (newest === here ? "" : ` (newest: ${newest})`);
    const details = document.createElement("details");
    details.append(summary, list);
    const panel = document.createElement("nav");
    panel.className = "versions sidebar-primary-item";
    panel.setAttribute("aria-label", "Versions");
    panel.append(details);
    document.querySelector(".bd-docs-nav")?.closest(".sidebar-primary-item").before(panel);
  };

  document.addEventListener("DOMContentLoaded", () => {
    const all = document.createElement("script");
    all.src = new URL("versions.js", site);
    all.addEventListener("load", () => show(window.ctdVersions));
    document.head.append(all);
  });
}

// Search shows parts of the pages that it finds, and asks the server for them. Files on a disk have no server.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

// Draws the diagrams of a page with Mermaid, which is loaded only where there are any, in the colours of the theme.
(() => {
  const folder = document.currentScript.src.replace(/[^/]*$/, "");
  const diagrams = [...document.querySelectorAll("pre.mermaid")].map((node) => ({ node, text: node.textContent }));
  const night = matchMedia("(prefers-color-scheme: dark)");
  let drawn = "";

  const draw = async () => {
    const chosen = document.body.dataset.theme;
    const theme = chosen === "dark" || (chosen !== "light" && night.matches) ? "dark" : "default";
    if (theme === drawn) return;
    drawn = theme;
    for (const { node, text } of diagrams) {
      node.textContent = text;
      delete node.dataset.processed;
    }
    mermaid.initialize({ startOnLoad: false, theme });
    await mermaid.run({ nodes: diagrams.map(({ node }) => node) });
  };

  if (diagrams.length) {
    const script = document.createElement("script");
    script.src = folder + "mermaid.min.js";
    script.onload = () => {
      draw();
      night.addEventListener("change", draw);
      new MutationObserver(draw).observe(document.body, { attributeFilter: ["data-theme"] });
    };
    document.head.append(script);
  }
})();

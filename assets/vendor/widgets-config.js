// Loaded after require.js and before embed-amd.js: find widget packages and fonts beside this file, never on a CDN.
window.require.config({ baseUrl: document.currentScript.src.replace(/[^\/]*$/, ""), waitSeconds: 0 });

// Widget labels call MathJax 2; answer with MathJax 3.
window.addEventListener("load", () => {
  const mathjax = window.MathJax;
  if (mathjax && !mathjax.Hub) mathjax.Hub = { Queue: ([, , element]) => mathjax.typesetPromise([element]) };
});

// The files of somebody else's task: looked at without leaving the page.

document.addEventListener("click", (event) => {
  const file = event.target.closest("a.open");
  if (!file || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  import("./files.js").then((module) => module.preview(file.getAttribute("href"), file.dataset.path)).catch(() => location.assign(file.href));
});

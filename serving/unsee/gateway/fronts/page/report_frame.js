// Shows the report that the page hands over, in a frame without an origin: nothing in a report can
// reach the page or its token.

addEventListener("message", (event) => {
  if (event.source !== parent || typeof event.data !== "string") return;
  const report = new DOMParser().parseFromString(event.data, "text/html");
  document.documentElement.replaceWith(document.adoptNode(report.documentElement));
});

/**
 * Writes src/observe/page.json, which the status page is served from, out of the
 * files of this folder and the chart library: `deno task page`.
 *
 * It is JSON because JSR takes no module that imports text.
 *
 * @module
 */

import uplotScript from "uplot/dist/uPlot.iife.min.js" with { type: "text" };
import uplotStyle from "uplot/dist/uPlot.min.css" with { type: "text" };
import uplotLicence from "uplot/LICENSE" with { type: "text" };
import loginHtml from "./login.html" with { type: "text" };
import pageStyle from "./page.css" with { type: "text" };
import pageHtml from "./page.html" with { type: "text" };
import routesHtml from "./routes.html" with { type: "text" };
import routesScript from "./routes.js" with { type: "text" };
import pageScript from "./page.js" with { type: "text" };

/** What belongs into src/observe/page.json. */
export function pageJson(): string {
  // Its licence wants its words in every copy.
  const licence = `/*! uPlot\n\n${uplotLicence.trim()}\n*/\n`;
  const files = {
    "page.html": pageHtml,
    "login.html": loginHtml,
    "routes.html": routesHtml,
    "page.css": pageStyle,
    "page.js": pageScript,
    "routes.js": routesScript,
    "uplot.css": `${licence}${uplotStyle}`,
    "uplot.js": `${licence}${uplotScript}`,
  };
  return `${JSON.stringify(files, null, 2)}\n`;
}

if (import.meta.main) {
  Deno.writeTextFileSync(new URL("../src/observe/page.json", import.meta.url), pageJson());
}

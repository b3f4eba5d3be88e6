/**
 * Writes src/observe/page.json, which the status page is served from, out of the
 * files of this folder and the chart library: `deno task page`.
 *
 * It is JSON because JSR takes no module that imports text.
 *
 * @module
 */

import { fileURLToPath } from "node:url";
import uplotScript from "uplot/dist/uPlot.iife.min.js" with { type: "text" };
import uplotStyle from "uplot/dist/uPlot.min.css" with { type: "text" };
import uplotLicence from "uplot/LICENSE" with { type: "text" };
import loginHtml from "./login.html" with { type: "text" };
import pageHtml from "./page.html" with { type: "text" };
import routesHtml from "./routes.html" with { type: "text" };

/** What belongs into src/observe/page.json. */
export function pageJson(): string {
  // Its licence wants its words in every copy.
  const licence = `/*! uPlot\n\n${uplotLicence.trim()}\n*/\n`;
  const files = {
    "page.html": pageHtml,
    "login.html": loginHtml,
    "routes.html": routesHtml,
    "page.css": minified("page.css"),
    "page.js": minified("page.js"),
    "routes.js": minified("routes.js"),
    "uplot.css": `${licence}${uplotStyle}`,
    "uplot.js": `${licence}${uplotScript}`,
  };
  return `${JSON.stringify(files, null, 2)}\n`;
}

/** The runtime fetches its bundler from npm when it is used first. */
function minified(name: string): string {
  // Names at the top of a classic script would be those of the window.
  const how = ["--minify", "--format=iife", "--platform=browser"];
  const path = fileURLToPath(new URL(name, import.meta.url));
  const { success, stdout, stderr } = new Deno.Command(Deno.execPath(), {
    args: ["bundle", "--quiet", "--no-config", "--no-lock", ...how, path],
  }).outputSync();
  if (success) return new TextDecoder().decode(stdout);
  throw new Error(`${name} cannot be bundled: ${new TextDecoder().decode(stderr)}`);
}

if (import.meta.main) {
  Deno.writeTextFileSync(new URL("../src/observe/page.json", import.meta.url), pageJson());
}

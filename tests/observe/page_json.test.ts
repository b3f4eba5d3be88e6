import assert from "node:assert/strict";
import { pageJson } from "../../page/generate.ts";

Deno.test("src/observe/page.json is what page/ and the chart library make: deno task page", () => {
  const path = new URL("../../src/observe/page.json", import.meta.url);
  const written = Deno.readTextFileSync(path);
  assert.ok(written === pageJson(), "it is older than its sources: deno task page");
  const page: Record<string, string> = JSON.parse(written);
  for (const [name, text] of Object.entries(page)) assert.ok(text.length > 100, name);
  for (const name of ["uplot.css", "uplot.js"]) {
    assert.match(page[name] ?? "", /^\/\*! uPlot\n\nThe MIT License[^]*Copyright \(c\) \d+/, name);
  }
});

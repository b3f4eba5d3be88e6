/** The table and the picture of docs/PERFORMANCE.md are those of docs/performance.json. */
import assert from "node:assert/strict";
import { tableOf } from "../../bench/table.ts";
import { draw } from "../../docs/performance.ts";
import figures from "../../docs/performance.json" with { type: "json" };

const read = (name: string) => Deno.readTextFile(new URL(`../../docs/${name}`, import.meta.url));
/** `deno fmt` aligns the columns anew. */
const cells = (table: string) => table.replaceAll(/ +/g, " ").replaceAll(/-+/g, "-");

Deno.test("the picture of the figures is drawn from what was measured", async () => {
  assert.equal(await draw(figures), await read("performance.svg"));
});

Deno.test("the table of the figures is what was measured", async () => {
  const page = await read("PERFORMANCE.md");
  assert(cells(page).includes(cells(tableOf(figures))));
});

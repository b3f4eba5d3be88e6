/**
 * What modules import, as TypeScript's own parser reads it.
 *
 * @module
 */

import assert from "node:assert/strict";

/** One import, or an export from elsewhere. */
export interface Import {
  /** From where; absent where it is computed. */
  readonly specifier?: string | undefined;
  /** What `with { type: … }` says. */
  readonly type?: string | undefined;
  /** Whether it is made while the program runs: `import(…)`. */
  readonly isDynamic: boolean;
}

/** Everything that each file imports or exports from, in order. */
export async function importsOf(paths: readonly string[]): Promise<Map<string, Import[]>> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--no-check", "--no-prompt", "--quiet", "--allow-read", "--allow-env"],
      new URL("imports_child.ts", import.meta.url).pathname,
    ],
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(JSON.stringify(paths)));
  await writer.close();
  const { success, stdout } = await child.output();
  assert.ok(success, "TypeScript's parser did not run");
  const answers: Import[][] = JSON.parse(new TextDecoder().decode(stdout));
  return new Map(answers.map((imports, i) => [paths[i] ?? "", imports]));
}

/**
 * What modules import, as TypeScript's own parser reads it.
 *
 * @module
 */

import { askChild } from "./ask_child.ts";

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
  const child = new URL("imports_child.ts", import.meta.url).pathname;
  const answers = await askChild<Import[][]>(child, paths, ["--allow-read", "--allow-env"]);
  return new Map(answers.map((imports, i) => [paths[i] ?? "", imports]));
}

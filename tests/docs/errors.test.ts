/**
 * Holds docs/ERRORS.md against the code: every class that a caller can catch has
 * its row and its exit code there, every reason its words, and nothing else does.
 */
import assert from "node:assert/strict";
import * as library from "../../mod.ts";
import * as command from "../../src/cli/terminal/exit_code.ts";
import { EdgeRefusedError } from "../../src/postgres/errors.ts";

const page = read("docs/ERRORS.md");

function read(path: string): string {
  return Deno.readTextFileSync(new URL(`../../${path}`, import.meta.url));
}

/** The first cells of a section's table, without their backticks, and the second ones. */
function rowsOf(heading: string): Map<string, string> {
  const section = page.split(/^#+ /m).find((text) => text.startsWith(heading));
  const rows = (section ?? "").matchAll(/^\| `([^`]+)`\s*\|([^|]*)\|/gm);
  return new Map([...rows].map(([, name = "", second = ""]) => [name, second.trim()]));
}

/** The words of a union of strings, as it stands in a source. */
function wordsOfUnion(path: string, type: string): string[] {
  const union = new RegExp(`type ${type} =([^;]*);`).exec(read(path))?.[1] ?? "";
  return [...union.matchAll(/"([^"]+)"/g)].map(([, word = ""]) => word);
}

const isErrorClass = (value: unknown): value is { name: string; prototype: Error } =>
  typeof value === "function" && value.prototype instanceof Error;

Deno.test("docs/ERRORS.md, every class of error has a row with its exit code", () => {
  const exported: unknown[] = Object.values({ ...library, ...command, EdgeRefusedError });
  const classes = exported.filter(isErrorClass);
  assert.ok(classes.length >= 10, `only ${classes.length} classes were found`);
  const codes = classes.map(({ name, prototype }) =>
    [name, String(command.exitCodeOf(Object.create(prototype)))] as const
  );
  assert.deepEqual(rowsInOrder(rowsOf("Classes")), rowsInOrder(new Map(codes)));
});

Deno.test("docs/ERRORS.md, every exit code has a row", () => {
  const codes = [...page.matchAll(/^\| (\d+)\s*\|/gm)].map(([, code]) => Number(code));
  assert.deepEqual(codes, Object.values(command.ExitCode));
});

for (
  const [heading, path, type] of [
    ["Reasons of a `QueueFileError`", "src/base/errors.ts", "QueueFileReason"],
    ["Reasons of a `FramingError`", "src/framing/errors.ts", "FramingFault"],
  ] as const
) {
  Deno.test(`docs/ERRORS.md, every ${type} has a row`, () => {
    const words = wordsOfUnion(path, type);
    assert.ok(words.length >= 4, `only ${words.length} were found in ${path}`);
    assert.deepEqual([...rowsOf(heading).keys()].sort(), words.sort());
  });
}

Deno.test("docs/ERRORS.md, every kind of verdict has a row", () => {
  const source = read("src/delivery/liveness.ts");
  const union = /export type Verdict =([\s\S]*?);\n\n/.exec(source)?.[1] ?? "";
  const kinds = [...union.matchAll(/readonly kind: "([^"]+)"/g)].map(([, kind = ""]) => kind);
  assert.ok(kinds.length >= 9, `only ${kinds.length} were found`);
  assert.deepEqual([...rowsOf("Verdicts are no errors").keys()].sort(), kinds.sort());
});

function rowsInOrder(rows: ReadonlyMap<string, string>): string[] {
  return [...rows].map(([name, code]) => `${name} ${code}`).sort();
}

/**
 * Holds the code against the table in ARCHITECTURE.md: imports run one way,
 * and each capability has one home.
 */
import assert from "node:assert/strict";
import { type Import, importsOf } from "./support/imports_of.ts";
import { TempDir } from "./support/temp_dir.ts";

const root = new URL("..", import.meta.url);

interface Row {
  readonly files: string;
  readonly mayImport: readonly string[];
}

/** The rows of the table, in order. */
function readTable(): Row[] {
  const text = Deno.readTextFileSync(new URL("ARCHITECTURE.md", root));
  const rows: Row[] = [];
  for (const line of text.split("\n")) {
    const cells = /^\| `([^`]+)`\s*\|([^|]*)\|/.exec(line);
    if (cells === null) continue;
    const [, files = "", allowed = ""] = cells;
    const words = allowed.trim();
    const mayImport = words === "everything above"
      ? rows.map((row) => row.files)
      : words.split(",").map((word) => word.trim()).filter(Boolean)
        .map((word) => `src/${word}/`);
    rows.push({ files, mayImport });
  }
  return rows;
}

function* sources(directory: string): Generator<string> {
  for (const entry of Deno.readDirSync(new URL(directory, root))) {
    const path = `${directory}${entry.name}`;
    if (entry.isDirectory) yield* sources(`${path}/`);
    else if (path.endsWith(".ts")) yield path;
  }
}

const rows = readTable();
const code = ["mod.ts", ...sources("src/")];
/** Code that is not published. */
const tools = [
  ...[
    "anomalies/",
    "bench/",
    "cluster/",
    "examples/",
    "field/",
    "fuzz/",
    "kernels/",
    "lab/",
    "page/",
    "simulation/",
    "soak/",
  ],
  "tests/",
].flatMap((directory) => [...sources(directory)]);

const files = [...code, ...tools];
const imports = await importsOf(files.map((path) => new URL(path, root).pathname));

/** Everything that a file imports or exports from. */
function importsFrom(path: string): readonly Import[] {
  return imports.get(new URL(path, root).pathname) ?? assert.fail(`${path} was not read`);
}

/** Every specifier of those that is written out. */
function specifiersOf(path: string): string[] {
  return importsFrom(path).flatMap(({ specifier }) => specifier ?? []);
}

/** The row of the innermost folder. */
const rowOf = (path: string) =>
  rows.filter(({ files }) => files === path || (files.endsWith("/") && path.startsWith(files)))
    .toSorted((a, b) => b.files.length - a.files.length)[0];
const pathOf = (importer: string, specifier: string) =>
  new URL(specifier, new URL(importer, root)).href.slice(root.href.length);

Deno.test("every file has its row in ARCHITECTURE.md", () => {
  assert.ok(rows.length >= 10, "the table was not found");
  assert.deepEqual(code.filter((path) => rowOf(path) === undefined), []);
});

Deno.test("every folder of code has a row of its own", () => {
  const inFolders = code.filter((path) => !rows.some(({ files }) => files === path));
  const folders = new Set(inFolders.map((path) => path.slice(0, path.lastIndexOf("/") + 1)));
  assert.deepEqual(
    [...folders].filter((folder) => !rows.some(({ files }) => files === folder)),
    [],
  );
  const empty = rows.filter(({ files }) => !code.some((path) => path.startsWith(files)));
  assert.deepEqual(empty, []);
});

Deno.test("every import is one that the table allows", () => {
  let checked = 0;
  const broken: string[] = [];
  for (const path of code) {
    const row = rowOf(path);
    for (const specifier of specifiersOf(path)) {
      if (!/^\..*\.ts$/.test(specifier)) continue;
      checked++;
      const target = rowOf(pathOf(path, specifier));
      const allowed = target !== undefined && row !== undefined &&
        (target === row || row.mayImport.includes(target.files));
      if (!allowed) broken.push(`${path} imports ${specifier}`);
    }
  }
  assert.ok(checked > 50, `only ${checked} imports were found`);
  assert.deepEqual(broken, []);
});

Deno.test("no two files import each other, however far around", () => {
  const done = new Set<string>();
  const visit = (path: string, trail: readonly string[]): void => {
    assert.ok(!trail.includes(path), `circle: ${[...trail, path].join(" → ")}`);
    if (done.has(path)) return;
    for (const specifier of specifiersOf(path)) {
      if (/^\..*\.ts$/.test(specifier)) visit(pathOf(path, specifier), [...trail, path]);
    }
    done.add(path);
  };
  for (const path of code) visit(path, []);
  assert.ok(done.size >= code.length);
});

Deno.test("each capability has one home", () => {
  const homes: [RegExp, RegExp][] = [
    [/Deno\.dlopen/, /^src\/(kernel\/libc|tls\/openssl\/libssl)\.ts$/],
    [/Deno\.connect/, /^src\/kernel\//],
    [
      /\b(SELECT|INSERT INTO|DELETE FROM|PRAGMA|CREATE TABLE)\b/,
      /^src\/(queue|db_sqlite|postgres|spool)\//,
    ],
    [/node:sqlite/, /^src\/queue\/sqlite\/node_sqlite\.ts$/],
    [/\bconsole\.|Deno\.std(out|err|in)|Deno\.exit/, /^src\/cli\//],
    [
      /\b(performance\.now|Date\.now|setTimeout|setInterval|setImmediate)\(/,
      /^src\/(base\/clock\.ts$|cli\/)/,
    ],
    [/Math\.random/, /^src\/(sender\/sender\.ts$|postgres\/forwarder\.ts$|cli\/)/],
    [/from "commander"/, /^src\/cli\//],
    [
      /\bDeno\./,
      /^src\/((kernel|queue|spool|db_sqlite|permissions|observe|cli)\/|tls\/openssl\/libssl\.ts$)/,
    ],
    [/node:http2?"/, /^src\/observe\/listener\.ts$/],
    [/"node:tls"/, /^src\/tls\/node_engine\.ts$/],
    [/from "postgres"/, /^src\/postgres\/database\.ts$/],
    [/from "@opentelemetry/, /^src\/observe\/metrics\.ts$/],
  ];
  for (const [pattern, home] of homes) {
    const users = code.filter((path) => {
      const text = Deno.readTextFileSync(new URL(path, root))
        .replaceAll(/\/\*[\s\S]*?\*\//g, "").replaceAll(/\/\/.*/g, "");
      return pattern.test(text);
    });
    assert.ok(users.length > 0, `${pattern} is used nowhere: the check checks nothing`);
    assert.deepEqual(users.filter((path) => !home.test(path)), [], String(pattern));
  }
});

Deno.test("one entry imports from JSR, which not every machine can reach, and nothing else", () => {
  const users = files.filter((path) =>
    specifiersOf(path).some((specifier) => specifier.startsWith("jsr:"))
  );
  assert.deepEqual(users, ["src/db_sqlite/mod.ts"]);
});

Deno.test("what is published imports code and JSON only: JSR takes no text and no bytes", () => {
  const kinds = new Set<string | undefined>();
  for (const path of code) {
    for (const { specifier, type } of importsFrom(path)) {
      assert.notEqual(specifier, undefined, `${path} computes what it imports: no graph has it`);
      assert.ok(type === undefined || type === "json", `${path} imports ${specifier} as ${type}`);
      kinds.add(type);
    }
  }
  assert.ok(kinds.has("json"), "no import of JSON was seen: the check checks nothing");
});

Deno.test("imports are read as TypeScript reads them", async () => {
  const text = `import a, { type B } from "./a.ts";
    import "./effect.ts"; // import "./comment.ts";
    export * from "./b.ts"; export type { C } from './c.ts';
    import d from "./d.css" with { type: "text" };
    const e: import("./e.ts").E = await import("./f.ts");
    await import("./g.wasm", { with: { type: "bytes" } });
    await import(e); "import x from './string.ts'"; /* import "./block.ts" */`;
  using dir = new TempDir();
  const path = dir.file("module.ts");
  Deno.writeTextFileSync(path, text);
  const found = (await importsOf([path])).get(path);
  assert.deepEqual(found, [
    { specifier: "./a.ts", isDynamic: false },
    { specifier: "./effect.ts", isDynamic: false },
    { specifier: "./b.ts", isDynamic: false },
    { specifier: "./c.ts", isDynamic: false },
    { specifier: "./d.css", type: "text", isDynamic: false },
    { specifier: "./e.ts", isDynamic: false },
    { specifier: "./f.ts", isDynamic: true },
    { specifier: "./g.wasm", type: "bytes", isDynamic: true },
    { isDynamic: true },
  ]);
});

Deno.test("a file can be read in one sitting", () => {
  const long = code.map((path) => ({
    path,
    lines: Deno.readTextFileSync(new URL(path, root)).split("\n").length,
  })).filter(({ lines }) => lines > 600);
  assert.deepEqual(long, []);
});

/**
 * What `deno publish` would take, and whether JSR would: its files, and the graph of
 * its modules built as JSR's server builds it.
 */
import assert from "node:assert/strict";
import { askChild } from "../support/ask_child.ts";
import { importsOf } from "../support/imports_of.ts";
import { TempDir } from "../support/temp_dir.ts";
import type { Graph } from "./graph_child.ts";
import { LocalRegistry, type Package } from "./registry.ts";

const root = new URL("../..", import.meta.url);
const published = await (async () => {
  await using registry = await LocalRegistry.start();
  return registry.published;
})();
const entries = Object.values(published.exports).map((path) => path.replace(/^\.\//, ""));

function read(path: string): string {
  return Deno.readTextFileSync(new URL(path, root));
}

function textOf({ files }: Package, path: string): string {
  return new TextDecoder().decode(files.get(path));
}

/** Builds the graph of each module as JSR does; see `graph_child.ts`. */
async function graphsOf(roots: string[], files: Record<string, string>): Promise<Graph[]> {
  const child = new URL("graph_child.ts", import.meta.url).pathname;
  return await askChild(child, { roots, files }, ["--allow-read", "--allow-env"]);
}

Deno.test("published is what a user needs, and nothing else", () => {
  const sources = (directory: string): string[] =>
    [...Deno.readDirSync(new URL(directory, root))].flatMap(({ name, isDirectory }) =>
      isDirectory ? sources(`${directory}${name}/`) : `${directory}${name}`
    );
  const expected = [
    ...["deno.json", "mod.ts", ...sources("src/")],
    ...["README.md", "LICENSE", "CHANGES.md", "SECURITY.md"],
    ...[
      "CLUSTER",
      "ERRORS",
      "METRICS",
      "OPERATIONS",
      "OPTIONS",
      "PACKAGE",
      "PROMISES",
      "PROTOCOLS",
      "TCP",
    ]
      .map((name) => `docs/${name}.md`),
    ...["docs/options.schema.json", "docs/route.schema.json", "docs/demo.svg"],
    // deno publish wants every module that it has checked.
    "db_sqlite_stand_in/mod.ts",
  ];
  assert.deepEqual([...published.files.keys()].sort(), expected.sort());
  const odd = expected.filter((path) => path.startsWith("src/") && !path.endsWith(".ts"));
  assert.deepEqual(odd, ["src/observe/page.json"]);
});

Deno.test("JSR can build the graph of every entry, and refuses what it has to", async () => {
  const files: Record<string, string> = {
    ...Object.fromEntries(
      [...published.files.keys()].map((path) => [path, textOf(published, path)]),
    ),
    "text.ts": 'import text from "./README.md" with { type: "text" }; text;',
    "bytes.ts": 'import bytes from "./README.md" with { type: "bytes" }; bytes;',
    "gone.ts": 'import "./gone_away.ts";',
    "json.ts": 'import json from "./deno.json" with { type: "json" }; json;',
  };
  const refused = ["text.ts", "bytes.ts", "gone.ts"];
  const roots = [...entries, "json.ts", ...refused];
  const graphs = await graphsOf(roots, files);
  for (const [i, graph] of graphs.entries()) {
    const root = roots[i] ?? "";
    if (refused.includes(root)) assert.ok("error" in graph, `${root} should be refused`);
    else assert.ok("modules" in graph && graph.modules.includes(root), JSON.stringify(graph));
  }
});

Deno.test("every import of what is published leads to it, or says which version", async () => {
  using dir = new TempDir();
  const modules = [...published.files.keys()].filter((path) => path.endsWith(".ts"));
  for (const path of modules) {
    const file = dir.file(path);
    Deno.mkdirSync(file.slice(0, file.lastIndexOf("/")), { recursive: true });
    Deno.writeTextFileSync(file, textOf(published, path));
  }
  const imports = await importsOf(modules.map((path) => dir.file(path)));
  const broken: string[] = [];
  /** The modules and the packages that an entry brings along. */
  const reach = (entry: string) => {
    const reached = new Set<string>();
    const packages = new Set<string>();
    const visit = (path: string): void => {
      if (reached.has(path)) return;
      reached.add(path);
      for (const { specifier = "(computed)" } of imports.get(dir.file(path)) ?? []) {
        const { protocol, pathname } = new URL(specifier, `file:///${path}`);
        const [, name] = /^((?:npm|jsr):\/?(?:@[\w.-]+\/)?[\w.-]+)@\^\d/.exec(specifier) ?? [];
        if (protocol === "file:" && published.files.has(pathname.slice(1))) {
          visit(pathname.slice(1));
        } else if (name !== undefined) {
          packages.add(name);
        } else if (!specifier.startsWith("node:")) {
          broken.push(`${path} imports ${specifier}`);
        }
      }
    };
    visit(entry);
    return { reached, packages };
  };
  const rows = new Map(
    [...read("docs/PACKAGE.md").matchAll(/^\| `jsr:@sendq\/sendq([^`]*)` *\|[^|]*\|([^|]*)\|/gm)]
      .map(([, name = "", cell = ""]) => [`.${name}`, cell]),
  );
  assert.deepEqual([...rows.keys()].sort(), Object.keys(published.exports).sort());
  const all = new Set<string>();
  for (const [name, path] of Object.entries(published.exports)) {
    const { reached, packages } = reach(path.replace(/^\.\//, ""));
    for (const module of reached) all.add(module);
    const named = [...(rows.get(name) ?? "").matchAll(/`([^`]+)`/g)].map(([, text]) => text);
    assert.deepEqual(named.sort(), [...packages].sort(), `docs/PACKAGE.md, ${name}`);
  }
  assert.deepEqual(broken, []);
  const unused = modules.filter((path) => !all.has(path));
  assert.deepEqual(unused, ["db_sqlite_stand_in/mod.ts"]);
});

Deno.test("every entry opens with what it is for", () => {
  for (const entry of entries) {
    const [comment = ""] = /^(#!.*\n)?\/\*\*[^]*?\*\//.exec(textOf(published, entry)) ?? [];
    assert.match(comment, /\n \* @module\b/, entry);
  }
});

Deno.test("every entry's docs are linted by deno task check", () => {
  const { tasks } = JSON.parse(read("deno.json"));
  const [, linted = ""] = /deno doc --lint ([^&]*)/.exec(tasks.check.command) ?? [];
  assert.deepEqual(linted.trim().split(" ").sort(), entries.toSorted());
});

Deno.test("the oldest Deno that is named is the one that the gate runs", () => {
  const [, gate = ""] = /npx -y deno@(\d+\.\d+)\.0 task test/.exec(read(".ci/run")) ?? [];
  for (const page of ["README.md", "docs/PACKAGE.md"]) {
    const named = [...read(page).matchAll(/Deno (\d+\.\d+) or later/g)].map(([, v]) => v);
    assert.deepEqual(named, [gate], page);
  }
});

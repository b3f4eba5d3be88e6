/**
 * Builds graphs of modules as JSR's server does: `deno_graph`, with imports of text
 * and bytes switched off. Reads `{ roots, files }`, prints a {@linkcode Graph} for
 * each root.
 *
 * @module
 */
// deno-lint-ignore-file no-console -- the answer
import { build, type LoadResponse, Parser } from "@deno/eszip";

/** The modules of a graph, or why it cannot be built. */
export type Graph = { readonly modules: string[] } | { readonly error: string };

const SHA256_OF_NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const BASE = "file:///package/";

/** Other packages of JSR, whose graphs it has built before: each is one empty module. */
function elsewhere(path: string): string {
  if (path.endsWith("_meta.json")) {
    const { size, checksum } = { size: 0, checksum: `sha256-${SHA256_OF_NOTHING}` };
    return JSON.stringify({
      exports: { ".": "./mod.ts" },
      manifest: { "/mod.ts": { size, checksum } },
    });
  }
  return path.endsWith("/meta.json") ? JSON.stringify({ versions: { "0.13.0": {} } }) : "";
}

async function graphOf(root: string, files: Readonly<Record<string, string>>): Promise<Graph> {
  const load = (specifier: string): Promise<LoadResponse | undefined> => {
    // Nothing of these is loaded: JSR only reads what the specifier says.
    if (/^(npm|jsr|node):/.test(specifier)) {
      return Promise.resolve({ kind: "external", specifier });
    }
    const content = specifier.startsWith("https://jsr.io/")
      ? elsewhere(new URL(specifier).pathname)
      : files[specifier.slice(BASE.length)];
    return Promise.resolve(
      content === undefined ? undefined : { kind: "module", specifier, content },
    );
  };
  try {
    const parser = await Parser.createInstance();
    const specifiers: string[] = await parser.parseBytes(await build([`${BASE}${root}`], load));
    return {
      modules: specifiers.flatMap((specifier) =>
        specifier.startsWith(BASE) ? specifier.slice(BASE.length) : []
      ),
    };
  } catch (error) {
    return { error: String(error) };
  }
}

const { roots, files } = await new Response(Deno.stdin.readable).json();
const graphs: Graph[] = [];
for (const root of roots) graphs.push(await graphOf(root, files));
console.log(JSON.stringify(graphs));

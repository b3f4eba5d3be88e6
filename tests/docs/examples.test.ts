/**
 * Examples that cannot run in a test, because they name a server that is not there, are
 * at least programs: each is checked as a user would type it, in a project of its own
 * that takes the package by its name. They are marked `ts ignore`, so that
 * `deno test --doc` leaves them alone; it runs all others. Those with `as-typed` besides
 * run in `tests/package/`.
 */
import assert from "node:assert/strict";
import denoJson from "../../deno.json" with { type: "json" };
import { TempDir } from "../support/temp_dir.ts";

const root = new URL("../../", import.meta.url);

function* filesBelow(folder: string, end: string): Generator<string> {
  for (const entry of Deno.readDirSync(new URL(folder, root))) {
    const path = `${folder}${entry.name}`;
    if (entry.isDirectory) yield* filesBelow(`${path}/`, end);
    else if (path.endsWith(end)) yield path;
  }
}

const FILES = ["README.md", "mod.ts", ...filesBelow("docs/", ".md"), ...filesBelow("src/", ".ts")];

/** Code blocks with this mark, as they would be typed. */
function blocksIn(path: string, mark: string): string[] {
  const text = Deno.readTextFileSync(new URL(path, root));
  const lines = path.endsWith(".ts") ? text.replaceAll(/^ *\* ?/gm, "") : text;
  return [
    ...lines.matchAll(new RegExp(`^ *\`\`\`${mark}(?: as-typed)?\n([\\s\\S]*?)^ *\`\`\``, "gm")),
  ]
    .map(([, code = ""]) => code);
}

const ignored = FILES.flatMap((path) =>
  blocksIn(path, "ts ignore").map((code, number) => ({ path, number, code }))
).filter(({ code }) =>
  // Packages that not every machine can fetch are checked where they are.
  !/"jsr:(?!@sendq\/)/.test(code)
);

Deno.test("examples that do not run are checked as a user types them", () => {
  assert(ignored.length >= 5, `only ${ignored.length} were found`);
  using dir = new TempDir();
  const version = `^${denoJson.version}`;
  Deno.writeTextFileSync(
    dir.file("deno.json"),
    JSON.stringify({
      links: [decodeURIComponent(root.pathname)],
      imports: {
        "@sendq/sendq": `jsr:@sendq/sendq@${version}`,
        "@sendq/sendq/": `jsr:/@sendq/sendq@${version}/`,
      },
    }),
  );
  const files = ignored.map(({ path, number, code }) => {
    const file = dir.file(`${path.replaceAll("/", "_")}_${number}.ts`);
    Deno.writeTextFileSync(file, code);
    return file;
  });
  const { success, stderr } = new Deno.Command(Deno.execPath(), {
    args: ["check", "--no-lock", ...files],
    cwd: dir.path,
    env: { NO_COLOR: "1" },
  }).outputSync();
  assert(success, new TextDecoder().decode(stderr));
});

Deno.test("every example imports what it uses", () => {
  const code = FILES.flatMap((path) =>
    ["ts", "ts ignore"].flatMap((mark) => blocksIn(path, mark).map((text) => ({ path, text })))
  );
  assert(code.length > 15, `only ${code.length} were found`);
  const incomplete = code.filter(({ text }) =>
    /\b(Sender|OutboundQueue|QueueInspector|Relay)\.open\(/.test(text) &&
    !/from "(jsr:)?@sendq\/sendq/.test(text)
  );
  assert.deepEqual(incomplete, []);
});

Deno.test("the first example anybody sees are the two lines", () => {
  for (const path of ["README.md", "mod.ts"]) {
    const [first = ""] = blocksIn(path, "ts ignore");
    assert.match(first, /Sender\.open\("outbox\.db", "tcp:\/\/legacy:4000"\);\n.*enqueue\("/, path);
    const text = Deno.readTextFileSync(new URL(path, root));
    assert.equal(text.indexOf("```ts"), text.indexOf("```ts ignore"), path);
  }
});

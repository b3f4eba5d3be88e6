/**
 * What `deno doc` shows of the package: each name that is spoken of can be reached, and
 * each that is exported has its place in the list.
 */
import assert from "node:assert/strict";
import { SendingSide } from "../../src/queue/sending_side.ts";

const root = new URL("../../", import.meta.url);

interface JsDoc {
  readonly doc?: string;
  readonly tags?: readonly { readonly kind: string; readonly doc?: string }[];
}

interface Declaration {
  readonly kind: string;
  readonly jsDoc?: JsDoc;
}

interface ModuleDoc {
  readonly module_doc?: JsDoc;
  readonly symbols: readonly { readonly name: string; readonly declarations: Declaration[] }[];
}

const EXPORTS: Readonly<Record<string, string>> =
  JSON.parse(Deno.readTextFileSync(new URL("deno.json", root))).exports;

/** What `deno doc` says, an entry each. */
function readDocs(): Map<string, ModuleDoc> {
  const { success, stdout } = new Deno.Command(Deno.execPath(), {
    args: ["doc", "--json", ...Object.values(EXPORTS)],
    cwd: root,
    stderr: "inherit",
  }).outputSync();
  assert(success);
  const { nodes }: { nodes: Record<string, ModuleDoc> } = JSON.parse(
    new TextDecoder().decode(stdout),
  );
  return new Map(
    Object.entries(EXPORTS).map(([entry, path]) => {
      const doc = nodes[new URL(path, root).href];
      assert(doc !== undefined, `deno doc says nothing of ${path}`);
      return [entry, doc];
    }),
  );
}

const docs = readDocs();

/** Every text of a piece of the documentation, with the name of what it is about. */
function* texts(node: unknown, about: string): Generator<{ about: string; text: string }> {
  if (typeof node !== "object" || node === null) return;
  const name = Object.getOwnPropertyDescriptor(node, "name")?.value;
  const here = typeof name === "string" && !about.endsWith(name) ? `${about}.${name}` : about;
  for (const [key, value] of Object.entries(node)) {
    if (key === "tsType" && "kind" in node && node.kind === "throws") {
      yield { about: here, text: `\`${value.repr}\`` };
    } else if ((key === "doc" || key === "value") && typeof value === "string") {
      // Code says itself what it imports, and is type-checked.
      yield { about: here, text: value.replaceAll(/```[\s\S]*?```/g, "") };
    } else yield* texts(value, here);
  }
}

/** The names of everything below a piece of the documentation: members, parameters, values. */
function* names(node: unknown): Generator<string> {
  if (typeof node !== "object" || node === null) return;
  for (const [key, value] of Object.entries(node)) {
    if (key === "jsDoc") continue;
    if ((key === "name" || key === "string") && typeof value === "string") yield value;
    yield* names(value);
  }
}

const exported = new Map<string, ReadonlySet<string>>();
const known = new Set<string>();
for (const { symbols } of docs.values()) {
  for (const { name, declarations } of symbols) {
    const members = new Set(names(declarations));
    // Where another entry exports it again, only one of them has its members.
    exported.set(name, members.union(exported.get(name) ?? new Set()));
    known.add(name);
    for (const member of members) known.add(member);
  }
}

/** Names of others: of the language, the platform, the kernel's headers. */
const FOREIGN = new Set(["LogTape", "rejectUnauthorized", "cat"]);

function canBeReached(name: string): boolean {
  const [first = "", ...members] = name.replace(/\(\)$/, "").split(".");
  if (FOREIGN.has(first) || first in globalThis) return true;
  if (members.length === 0) return known.has(first);
  const inside = exported.get(first) ?? (known.has(first) ? known : undefined);
  return inside !== undefined && members.every((member) => inside.has(member) || known.has(member));
}

const everyText = [...docs].flatMap(([entry, { module_doc, symbols }]) => [
  ...texts(module_doc, entry),
  ...symbols.flatMap(({ name, declarations }) => [...texts(declarations, `${entry} ${name}`)]),
]);

Deno.test("every link in a docstring leads to something exported", () => {
  let links = 0;
  const dead = everyText.flatMap(({ about, text }) =>
    [...text.matchAll(/\{@link(?:code|plain)?\s+([^}|\s]+)[^}]*\}/g)].flatMap(([, name = ""]) => {
      links++;
      if (/^https?:/.test(name)) return [];
      const [first = "", member] = name.split(".");
      const members = exported.get(first);
      const leads = members !== undefined && (member === undefined || members.has(member));
      return leads ? [] : [`${about}: ${name}`];
    })
  );
  assert(links > 20, `only ${links} links were found`);
  assert.deepEqual(dead, []);
});

Deno.test("every name in a docstring is one that a reader can find", () => {
  let found = 0;
  const unknown = everyText.flatMap(({ about, text }) =>
    [...text.matchAll(/`([^`\n]+)`/g)].flatMap(([, code = ""]) => {
      // TypeName, someName, name(), TypeName.member
      const isName = /^[A-Z]\w*[a-z]\w*(\.\w+)*(\(\))?$/.test(code) ||
        /^[a-z]+[A-Z]\w*(\.\w+)*(\(\))?$/.test(code) || /^[a-z]\w*(\.\w+)*\(\)$/.test(code);
      if (!isName) return [];
      found++;
      return canBeReached(code) ? [] : [`${about}: ${code}`];
    })
  );
  assert(found > 50, `only ${found} names were found`);
  assert.deepEqual(unknown, []);
});

Deno.test("no docstring speaks of a file that is not in the package", () => {
  const beside = everyText.flatMap(({ about, text }) =>
    [...text.matchAll(/\b(?:kernel_facts|deno_facts|docs\/[\w./-]+|[A-Z]+\.md)\b/g)]
      .map(([file]) => `${about}: ${file}`)
  );
  assert.deepEqual(beside, []);
});

Deno.test("no default in a docstring lost its braces", () => {
  const torn = everyText.filter(({ text }) => {
    const count = (sign: string) => text.split(sign).length;
    return count("{") !== count("}");
  });
  assert.deepEqual(torn.map(({ about, text }) => `${about}: ${text}`), []);
});

Deno.test("everything exported has a category, and the sender's comes first", () => {
  const categories = new Map<string, string | undefined>();
  for (const [entry, { symbols }] of docs) {
    if (entry !== "." && entry !== "./advanced") continue;
    for (const { name, declarations } of symbols) {
      const tags = declarations.flatMap(({ jsDoc }) => jsDoc?.tags ?? []);
      categories.set(name, tags.find(({ kind }) => kind === "category")?.doc);
    }
  }
  assert(categories.size > 50);
  const without = [...categories].filter(([, category]) => category === undefined);
  assert.deepEqual(without.map(([name]) => name), []);
  const first = [...new Set(categories.values())].toSorted()[0];
  assert.equal(categories.get("Sender"), first);
});

Deno.test("every class and function that the docs show is there as a value", async () => {
  const missing: string[] = [];
  let values = 0;
  for (const [entry, { symbols }] of docs) {
    const module: object = await import(new URL(EXPORTS[entry] ?? "", root).href);
    for (const { name, declarations } of symbols) {
      if (!declarations.some(({ kind }) => /^(class|function|variable)$/.test(kind))) continue;
      values++;
      if (!(name in module)) missing.push(`${entry} ${name}`);
    }
  }
  assert(values > 20, `only ${values} were found`);
  assert.deepEqual(missing, []);
});

Deno.test("a queue shows its users only what they may call", () => {
  const hidden = Object.getOwnPropertyNames(SendingSide.prototype)
    // What a queue tells, and its end, are the same from both sides.
    .filter((name) => !["constructor", "lastId", "removedThroughId", "close"].includes(name));
  assert(hidden.length >= 8);
  const shown = exported.get("OutboundQueue") ?? new Set();
  assert(shown.has("enqueue"));
  assert.deepEqual(hidden.filter((name) => shown.has(name)), []);
});

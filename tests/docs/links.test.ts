/**
 * Holds the pages against the repository: a link leads to a file and a heading
 * that are there, and a source that is named has not moved.
 */
import assert from "node:assert/strict";

const root = new URL("../../", import.meta.url);

/** Folders that have pages of ours. */
const FOLDERS = ["", "docs/", "docs/decisions/"];

const pages = FOLDERS.flatMap((folder) =>
  [...Deno.readDirSync(new URL(folder, root))]
    .filter(({ name }) => name.endsWith(".md"))
    .map(({ name }) => `${folder}${name}`)
);

function read(path: string): string {
  return Deno.readTextFileSync(new URL(path, root));
}

function exists(path: string): boolean {
  try {
    Deno.statSync(new URL(path, root));
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

function withoutCode(text: string): string {
  return text.replaceAll(/^ *```[\s\S]*?^ *```/gm, "");
}

/** What a heading is called in a link, as GitHub does it. */
function anchorsOf(path: string): Set<string> {
  const headings = withoutCode(read(path)).matchAll(/^#+ (.*)$/gm);
  return new Set(
    [...headings].map(([, words = ""]) =>
      words.trim().toLowerCase().replaceAll(/[^\p{L}\p{N}_ -]/gu, "").replaceAll(" ", "-")
    ),
  );
}

Deno.test("pages, every link to a file or a heading of ours leads there", () => {
  const broken: string[] = [];
  let checked = 0;
  for (const page of pages) {
    for (const [, link = ""] of withoutCode(read(page)).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^\w+:/.test(link)) continue;
      checked++;
      const target = new URL(link, new URL(page, root));
      const path = target.href.slice(root.href.length).replace(/#.*$/, "");
      const anchor = decodeURIComponent(target.hash.slice(1));
      const found = exists(path) && (anchor === "" || anchorsOf(path).has(anchor));
      if (!found) broken.push(`${page}: ${link}`);
    }
  }
  assert.ok(checked > 50, `only ${checked} links were found`);
  assert.deepEqual(broken, []);
});

Deno.test("pages, every source that they name is there", () => {
  const moved: string[] = [];
  let checked = 0;
  for (const page of pages) {
    if (page === "CHANGES.md") continue; // Tells what was.
    for (
      const [named] of read(page).matchAll(
        /\b(?:src|tests|lab|simulation|fuzz)\/[\w/{},.-]+\.ts\b/g,
      )
    ) {
      const [before = "", choices = "", after = ""] = named.split(/[{}]/);
      for (const choice of choices.split(",")) {
        const path = `${before}${choice}${after}`;
        checked++;
        if (!exists(path)) moved.push(`${page}: ${path}`);
      }
    }
  }
  assert.ok(checked > 30, `only ${checked} names were found`);
  assert.deepEqual(moved, []);
});

/**
 * The reader of damaged files against SQLite itself: what both can read is the
 * same, and of a damaged file nothing is passed over in silence.
 */
import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import fc from "../support/properties.ts";
import { DatabasePages, PageKind, uint16, uint32 } from "../../src/queue/repair/sqlite_pages.ts";
import { type Cell, DatabaseRows, type Gap, type Row } from "../../src/queue/repair/sqlite_rows.ts";
import { TempDir } from "../support/temp_dir.ts";

type Value = null | number | string | Uint8Array;

interface Table {
  readonly pageBytes: number;
  /** Whether the last rows are in the log only. */
  readonly inLog: boolean;
  readonly rows: ReadonlyMap<number, readonly Value[]>;
}

const value: fc.Arbitrary<Value> = fc.oneof(
  fc.constant(null),
  fc.maxSafeInteger(),
  fc.integer({ min: -200, max: 200 }),
  fc.double({ noNaN: true, noDefaultInfinity: true }).map((number) => number + 0.5),
  fc.string({ unit: "grapheme", maxLength: 40 }).map((text) => text.replaceAll("\0", "")),
  fc.uint8Array({ maxLength: 100 }),
  // Beyond a page, on lists of overflow pages.
  fc.integer({ min: 400, max: 20_000 }).map((length) =>
    Uint8Array.from({ length }, (_, i) => i * 31 + length)
  ),
);

const table: fc.Arbitrary<Table> = fc.record({
  pageBytes: fc.constantFrom(512, 1024, 4096, 65536),
  inLog: fc.boolean(),
  rows: fc.uniqueArray(
    fc.tuple(fc.integer({ min: 1, max: 1e12 }), fc.array(value, { minLength: 3, maxLength: 3 })),
    { selector: ([key]) => key, maxLength: 60 },
  ).map((rows) => new Map(rows)),
});

function make(path: string, { pageBytes, inLog, rows }: Table): DatabaseSync {
  const database = new DatabaseSync(path);
  database.exec(
    `PRAGMA page_size = ${pageBytes}; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA synchronous = OFF`,
  );
  if (inLog) database.exec("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0");
  database.exec("CREATE TABLE things (key INTEGER PRIMARY KEY, a, b, c)");
  const insert = database.prepare("INSERT INTO things VALUES (?, ?, ?, ?)");
  for (const [key, values] of rows) {
    // A number of JavaScript's would be stored as a floating-point one.
    const exact = values.map((value) =>
      Number.isSafeInteger(value) ? BigInt(Number(value)) : value
    );
    insert.run(key, ...exact);
  }
  return database;
}

function plain(cell: Cell | undefined): Value | undefined {
  if (cell === null || typeof cell !== "object") return cell;
  assert.deepEqual(cell.damaged, []);
  return new Uint8Array(cell.bytes);
}

function read(path: string): { items: (Row | Gap)[]; orphans: Row[] } {
  using pages = DatabasePages.open(path);
  const rows = new DatabaseRows(pages);
  const root = rows.roots()?.get("things");
  return { items: root === undefined ? [] : [...rows.table(root)], orphans: [...rows.orphans()] };
}

Deno.test("a sound file: every row as it was stored, in order, no gap and no orphan", () => {
  fc.assert(
    fc.property(table, (given) => {
      using dir = new TempDir();
      const database = make(dir.queue, given);
      try {
        const { items, orphans } = read(dir.queue);
        const keys = [...given.rows.keys()].sort((a, b) => a - b);
        assert.deepEqual(items.map((item) => "key" in item ? item.key : item), keys);
        for (const item of items) {
          assert("key" in item);
          const [first, ...cells] = item.cells;
          assert.equal(first, null, "in the place of the key");
          assert.deepEqual(cells.map(plain), given.rows.get(item.key));
        }
        assert.deepEqual(orphans, []);
      } finally {
        database.close();
      }
    }),
    { numRuns: 60 },
  );
});

Deno.test("pages: their number, bytes and owners are SQLite's own", () => {
  fc.assert(
    fc.property(table, (given) => {
      using dir = new TempDir();
      make(dir.queue, { ...given, inLog: false }).close();
      const file = Deno.readFileSync(dir.queue);
      const uses = new DatabaseSync(dir.queue, { readOnly: true });
      const used = uses.prepare("SELECT pageno, pagetype FROM dbstat WHERE name = 'things'").all();
      uses.close();
      using pages = DatabasePages.open(dir.queue);
      assert.deepEqual(
        [pages.pageBytes, pages.pageCount, pages.hasHeader, pages.hasLog, pages.brokenLogFrames],
        [given.pageBytes, file.length / given.pageBytes, true, false, 0],
      );
      for (let number = 1; number <= pages.pageCount; number++) {
        const start = (number - 1) * given.pageBytes;
        assert.deepEqual(pages.page(number), file.subarray(start, start + given.pageBytes));
      }
      for (const outside of [0, -1, 1.5, pages.pageCount + 1]) {
        assert.equal(pages.page(outside), undefined);
      }
      for (const { pageno, pagetype } of used) {
        const owner = pages.ownerOf(Number(pageno));
        assert(owner !== undefined, `page ${pageno} has no owner`);
        const isOverflow = owner.kind === PageKind.OVERFLOW ||
          owner.kind === PageKind.FIRST_OVERFLOW;
        assert.equal(isOverflow, pagetype === "overflow", `page ${pageno}`);
        if (owner.kind === PageKind.ROOT) continue;
        if (owner.kind !== PageKind.OVERFLOW) continue;
        assert.equal(pages.pageOwnedBy(owner.kind, owner.parent), pageno);
      }
    }),
    { numRuns: 30 },
  );
});

Deno.test("a damaged page, or a file cut off: each row is there, whole or marked, or in a gap", () => {
  fc.assert(
    fc.property(
      table.filter(({ rows }) => rows.size > 0),
      fc.integer({ min: 0, max: 999 }),
      fc.boolean(),
      (given, permille, isCut) => {
        using dir = new TempDir();
        make(dir.queue, { ...given, inLog: false }).close();
        const file = Deno.readFileSync(dir.queue);
        const { pageBytes } = given;
        const pageCount = file.length / pageBytes;
        // Any but those with the file's header and the list of tables.
        fc.pre(pageCount > 2);
        const damaged = 2 + Math.floor(permille / 1000 * (pageCount - 1));
        // Not with zeroes: such a page may well be the last of a list, and there is no checksum.
        file.fill(0xff, (damaged - 1) * pageBytes, damaged * pageBytes);
        Deno.writeFileSync(dir.queue, isCut ? file.subarray(0, (damaged - 1) * pageBytes) : file);
        const { items, orphans } = read(dir.queue);
        const found = new Map<number, Row>();
        for (const item of [...items, ...orphans]) if ("key" in item) found.set(item.key, item);
        const gaps = items.filter((item) => "after" in item);
        for (const [key, values] of given.rows) {
          const row = found.get(key);
          if (row === undefined) {
            assert(gaps.some(({ after, through }) => after < key && key <= through), `${key}`);
            continue;
          }
          for (const [i, cell] of row.cells.slice(1).entries()) {
            const stored = values[i];
            if (cell === null || typeof cell !== "object") assert.deepEqual(cell, stored);
            else {
              assert(stored instanceof Uint8Array);
              const expected = stored.slice();
              for (const { from, to } of cell.damaged) expected.fill(0, from, to);
              assert.equal(cell.length, stored.length);
              // A damaged end is left out, and told as damaged.
              const bytes = new Uint8Array(stored.length);
              bytes.set(cell.bytes);
              assert.deepEqual(bytes, expected, `damage of ${key} is told`);
            }
          }
        }
        assert.deepEqual([...found.keys()].filter((key) => !given.rows.has(key)), [], "invented");
      },
    ),
    { numRuns: 100 },
  );
});

Deno.test("a log: up to the last commit that is whole, and no further", () => {
  using dir = new TempDir();
  const rows = (from: number, to: number): Table["rows"] =>
    new Map(Array.from({ length: to - from }, (_, i) => [from + i, [i, "x".repeat(300), null]]));
  const database = make(dir.queue, { pageBytes: 1024, inLog: true, rows: rows(1, 40) });
  const log = Deno.readFileSync(`${dir.queue}-wal`);
  const copy = dir.file("copy.db");
  Deno.copyFileSync(dir.queue, copy);
  database.close();
  const frameBytes = 24 + 1024;
  const frames = (log.length - 32) / frameBytes;
  const keysWith = (bytes: Uint8Array): { keys: number[]; broken: number } => {
    Deno.writeFileSync(`${copy}-wal`, bytes);
    using pages = DatabasePages.open(copy);
    const { items } = read(copy);
    const keys = items.map((item) => "key" in item ? item.key : -1);
    return { keys, broken: pages.brokenLogFrames };
  };
  assert.deepEqual(keysWith(log), { keys: [...rows(1, 40).keys()], broken: 0 });

  const torn = log.slice();
  const tornFrame = Math.floor(frames / 2);
  const tornAt = 32 + tornFrame * frameBytes + 500;
  torn[tornAt] = (torn[tornAt] ?? 0) ^ 1;
  const { keys, broken } = keysWith(torn);
  assert(keys.length > 0 && keys.length < 39, `${keys.length} rows`);
  assert.deepEqual(keys, [...rows(1, keys.length + 1).keys()]);
  assert(broken >= frames - tornFrame, `${broken} of ${frames} frames`);

  const noHeader = log.slice();
  noHeader.fill(0, 0, 32);
  assert.deepEqual(keysWith(noHeader), { keys: [], broken: frames });
});

Deno.test("numbers of the file are big-endian", () => {
  const bytes = Uint8Array.of(0, 0x80, 1, 2, 3, 0xff, 0xff, 0xff, 0xff);
  assert.deepEqual([uint16(bytes, 1), uint32(bytes, 1), uint32(bytes, 5)], [
    0x8001,
    0x80010203,
    0xffffffff,
  ]);
});

/**
 * Rows of a damaged database, and where some are missing.
 *
 * A table is a tree of pages with the rows in its leaves, by ascending key. A
 * row that does not fit into its leaf goes on in a list of overflow pages.
 */

import { type DatabasePages, PageKind, uint16, uint32 } from "./sqlite_pages.ts";

const LEAF = 0x0d;
const INTERIOR = 0x05;
const INDEX_LEAF = 0x0a;
const INDEX_INTERIOR = 0x02;
/** SQLite makes no row larger than this (SQLITE_MAX_LENGTH). */
const MAX_ROW_BYTES = 1_000_000_000;
/** No tree is deeper, however large its file. */
const MAX_DEPTH = 32;

export type Cell = null | number | string | CellBytes;

/** Bytes of a row, and which of them are not to be trusted. */
export interface CellBytes {
  /** How many there are, or should be. */
  readonly length: number;
  /** The damaged ones are 0, and where the end is damaged it is left out. */
  readonly bytes: Uint8Array;
  /** In order. */
  readonly damaged: readonly Interval[];
}

/** From one place to before another. */
export interface Interval {
  readonly from: number;
  readonly to: number;
}

export interface Row {
  /** Its key: SQLite's rowid, which for our tables is the first column. */
  readonly key: number;
  /** Its columns; the first is NULL in place of the key. */
  readonly cells: readonly Cell[];
}

/** Rows may be missing whose keys lie above `after`, up to `through`. */
export interface Gap {
  readonly after: number;
  /** `Infinity`: to the table's end. */
  readonly through: number;
}

/** Reads rows from pages. */
export class DatabaseRows {
  readonly #pages: DatabasePages;
  readonly #visited: Uint8Array;
  /** Where the list of free pages leads, once it is needed. */
  #free: Set<number> | undefined;

  constructor(pages: DatabasePages) {
    this.#pages = pages;
    this.#visited = new Uint8Array((pages.pageCount >> 3) + 1);
  }

  /** The first page of each table and index, by name; `undefined`: the list is damaged. */
  roots(): Map<string, number> | undefined {
    const roots = new Map<string, number>();
    for (const item of this.table(1)) {
      if (!("key" in item)) return undefined;
      const [, name, , root] = item.cells;
      if (typeof name !== "string" || typeof root !== "number") return undefined;
      roots.set(name, root);
    }
    return roots;
  }

  /**
   * The same for a list that is damaged: auto-vacuum keeps first pages together,
   * from page 3 on, in the order in which they were made.
   *
   * @param names In that order.
   * @returns `undefined`: that cannot be seen any more.
   */
  guessRoots(names: readonly string[]): Map<string, number> | undefined {
    const roots = new Map<string, number>();
    for (const [i, name] of names.entries()) {
      const owner = this.#pages.ownerOf(3 + i);
      if (owner === undefined) return undefined;
      // An older version has fewer of them.
      if (owner.kind === PageKind.ROOT) roots.set(name, 3 + i);
    }
    return roots.size === 0 ? undefined : roots;
  }

  /** A table's rows by ascending key, and the gaps that come from damage. */
  *table(root: number): Generator<Row | Gap> {
    yield* this.#tree(root, { after: -Infinity, through: Infinity }, 0);
  }

  /** Rows in leaves that no tree led to: of which table they are, only their shape tells. */
  *orphans(): Generator<Row> {
    for (let number = 2; number <= this.#pages.pageCount; number++) {
      if (this.#wasVisited(number) || this.#mayNotBeTree(number)) continue;
      const page = this.#pages.page(number);
      if (page?.[0] !== LEAF) continue;
      for (const item of this.#leaf(number, page, { after: -Infinity, through: Infinity })) {
        if ("key" in item) yield item;
      }
    }
  }

  /** Rows of all indexes that fit into their page: the columns, and the key of the table's row. */
  *indexRows(): Generator<readonly Cell[]> {
    for (let number = 2; number <= this.#pages.pageCount; number++) {
      if (this.#mayNotBeTree(number)) continue;
      const page = this.#pages.page(number);
      if (page?.[0] !== INDEX_LEAF && page?.[0] !== INDEX_INTERIOR) continue;
      // In an interior page the number of another one stands before each row.
      const childBytes = page[0] === INDEX_LEAF ? 0 : 4;
      const most = Math.floor((this.#pages.pageBytes - 12) * 64 / 255) - 23;
      const firstAt = 8 + childBytes;
      const count = Math.min(uint16(page, 3), (page.length - firstAt) >> 1);
      for (let i = 0; i < count; i++) {
        const at = uint16(page, firstAt + 2 * i) + childBytes;
        const size = varint(page, at);
        if (size === undefined || size.value > most) continue;
        const record = page.subarray(at + size.length, at + size.length + size.value);
        const cells = cellsOf(columnsOf(record, size.value), record, []);
        if (cells !== undefined && record.length === size.value) yield cells;
      }
    }
  }

  *#tree(number: number, range: Gap, depth: number): Generator<Row | Gap> {
    const page = this.#wasVisited(number) ? undefined : this.#pages.page(number);
    const header = number === 1 ? 100 : 0;
    if (page === undefined || depth > MAX_DEPTH) return yield range;
    this.#visit(number);
    if (page[header] === LEAF) yield* this.#leaf(number, page, range);
    else if (page[header] === INTERIOR) yield* this.#interior(number, page, range, depth);
    else yield range;
  }

  *#interior(
    number: number,
    page: Uint8Array,
    range: Gap,
    depth: number,
  ): Generator<Row | Gap> {
    const header = number === 1 ? 100 : 0;
    const count = uint16(page, header + 3);
    let after = range.after;
    for (let i = 0; i < count; i++) {
      const at = uint16(page, header + 12 + 2 * i);
      const key = varint(page, at + 4);
      if (at < header + 12 + 2 * count || key === undefined) continue;
      // What is out of order is damaged; the next sound key covers its rows.
      if (key.value <= after || key.value > range.through) continue;
      yield* this.#child(uint32(page, at), number, { after, through: key.value }, depth);
      after = key.value;
    }
    yield* this.#child(uint32(page, header + 8), number, { ...range, after }, depth);
  }

  *#child(number: number, parent: number, range: Gap, depth: number): Generator<Row | Gap> {
    const owner = this.#pages.ownerOf(number);
    const strange = owner !== undefined &&
      (owner.kind !== PageKind.TREE || owner.parent !== parent);
    if (strange || this.#pages.isMap(number)) yield range;
    else yield* this.#tree(number, range, depth + 1);
  }

  *#leaf(number: number, page: Uint8Array, range: Gap): Generator<Row | Gap> {
    const header = number === 1 ? 100 : 0;
    const count = uint16(page, header + 3);
    const firstByte = header + 8 + 2 * count;
    if (firstByte > page.length) return yield range;
    let { after } = range;
    let missing = false;
    for (let i = 0; i < count; i++) {
      const at = uint16(page, header + 8 + 2 * i);
      const row = at < firstByte ? undefined : this.#row(number, page, at);
      if (row === undefined || row.key <= after || row.key > range.through) {
        missing = true;
        continue;
      }
      if (missing) yield { after, through: row.key - 1 };
      missing = false;
      yield row;
      after = row.key;
    }
    if (missing) yield { after, through: range.through };
  }

  /** The row at this place of a leaf; `undefined` when it is none. */
  #row(number: number, page: Uint8Array, at: number): Row | undefined {
    const size = varint(page, at);
    const key = size === undefined ? undefined : varint(page, at + size.length);
    if (size === undefined || key === undefined) return undefined;
    const { pageBytes, pageCount } = this.#pages;
    if (size.value < 2 || size.value > Math.min(MAX_ROW_BYTES, pageBytes * pageCount)) {
      return undefined;
    }
    const body = at + size.length + key.length;
    const local = localBytes(size.value, pageBytes);
    if (body + local + (local < size.value ? 4 : 0) > page.length) return undefined;
    const start = page.subarray(body, body + local);
    // Before anything is made room for: one damaged bit of a size may claim all memory.
    const columns = columnsOf(start, size.value);
    if (columns === undefined) return undefined;
    const { bytes, damaged } = local === size.value
      ? { bytes: start, damaged: [] }
      : this.#overflowing(number, page.subarray(body, body + local + 4), size.value);
    const cells = cellsOf(columns, bytes, damaged);
    return cells === undefined ? undefined : { key: key.value, cells };
  }

  /** Follows the overflow pages; around a damaged one the map of owners leads on. */
  #overflowing(leaf: number, start: Uint8Array, size: number): Omit<CellBytes, "length"> {
    const local = start.length - 4;
    const damaged: Interval[] = [];
    const perPage = this.#pages.pageBytes - 4;
    const list: number[] = [];
    const seen = new Set<number>();
    let parent = leaf;
    let next = uint32(start, local);
    for (let at = local; at < size; at += perPage) {
      const kind = list.length === 0 ? PageKind.FIRST_OVERFLOW : PageKind.OVERFLOW;
      const to = Math.min(size, at + perPage);
      if (seen.has(next) || !this.#isNext(next, kind, parent)) {
        // The page that should have named it is the damaged one, unless that is the leaf.
        if (list.length > 0) damage(damaged, at - perPage, at);
        const found = list.length === 0 ? undefined : this.#pages.pageOwnedBy(kind, parent);
        if (found === undefined || seen.has(found)) {
          damage(damaged, at, size);
          break;
        }
        next = found;
      }
      seen.add(next);
      list.push(next);
      const page = this.#pages.page(next);
      if (page === undefined) damage(damaged, at, to);
      parent = next;
      next = page === undefined ? 0 : uint32(page, 0);
      if (to === size && next !== 0) damage(damaged, at, to);
    }
    // No more than the pages that are there.
    const bytes = new Uint8Array(Math.min(size, local + list.length * perPage));
    bytes.set(start.subarray(0, local));
    for (const [i, number] of list.entries()) {
      const at = local + i * perPage;
      const page = this.#pages.page(number);
      if (page !== undefined) bytes.set(page.subarray(4, 4 + Math.min(perPage, size - at)), at);
    }
    for (const { from, to } of damaged) bytes.fill(0, from, to);
    return { bytes, damaged };
  }

  /** Whether a page is the next of a list, by what its owner and the map say. */
  #isNext(number: number, kind: number, parent: number): boolean {
    if (number < 2 || !this.#pages.has(number) || this.#pages.isMap(number)) return false;
    const owner = this.#pages.ownerOf(number);
    return owner === undefined || (owner.kind === kind && owner.parent === parent);
  }

  #mayNotBeTree(number: number): boolean {
    if (this.#pages.isMap(number) || this.#pages.isReserved(number)) return true;
    const owner = this.#pages.ownerOf(number);
    if (owner !== undefined) return owner.kind !== PageKind.TREE && owner.kind !== PageKind.ROOT;
    this.#free ??= this.#freePages();
    return this.#free.has(number);
  }

  #freePages(): Set<number> {
    const free = new Set<number>();
    const perTrunk = this.#pages.pageBytes / 4 - 2;
    for (let trunk = this.#pages.headerNumber(32); this.#pages.has(trunk) && !free.has(trunk);) {
      free.add(trunk);
      const page = this.#pages.page(trunk);
      if (page === undefined || uint32(page, 4) > perTrunk) break;
      for (let i = 0; i < uint32(page, 4); i++) free.add(uint32(page, 8 + 4 * i));
      trunk = uint32(page, 0);
    }
    return free;
  }

  #wasVisited(number: number): boolean {
    return ((this.#visited[number >> 3] ?? 0) & (1 << (number & 7))) !== 0;
  }

  #visit(number: number): void {
    this.#visited[number >> 3] = (this.#visited[number >> 3] ?? 0) | (1 << (number & 7));
  }
}

/** Adds an interval; they come in order and may touch. */
function damage(damaged: Interval[], from: number, to: number): void {
  const last = damaged.at(-1);
  if (last !== undefined && from <= last.to) {
    damaged[damaged.length - 1] = { from: last.from, to: Math.max(to, last.to) };
  } else damaged.push({ from, to });
}

/** How much of a row lies in its leaf; section 1.6 of the format. */
function localBytes(size: number, pageBytes: number): number {
  const most = pageBytes - 35;
  if (size <= most) return size;
  const least = Math.floor((pageBytes - 12) * 32 / 255) - 23;
  const wanted = least + (size - least) % (pageBytes - 4);
  return wanted <= most ? wanted : least;
}

/** Where in a record a column lies, and of which type it is. */
interface Column {
  readonly type: number;
  readonly at: number;
  readonly length: number;
}

/**
 * The columns of a record, by its header. A header that is longer than its leaf is none of
 * ours.
 *
 * @param start The record, as far as it lies in its leaf.
 * @returns `undefined`: header and size do not agree.
 */
function columnsOf(start: Uint8Array, size: number): Column[] | undefined {
  const header = varint(start, 0);
  if (header === undefined || header.value > start.length) return undefined;
  const columns: Column[] = [];
  let at = header.value;
  for (let i = header.length; i < header.value;) {
    const type = varint(start, i);
    const length = type === undefined ? undefined : lengthOf(type.value);
    if (type === undefined || length === undefined) return undefined;
    i += type.length;
    columns.push({ type: type.value, at, length });
    at += length;
  }
  return at === size ? columns : undefined;
}

function lengthOf(type: number): number | undefined {
  if (type >= 12) return (type - (type % 2 === 0 ? 12 : 13)) / 2;
  return [0, 1, 2, 3, 4, 6, 8, 8, 0, 0][type];
}

/** @returns `undefined`: there are no columns, or one is a number or a text, and damaged. */
function cellsOf(
  columns: readonly Column[] | undefined,
  record: Uint8Array,
  damaged: readonly Interval[],
): Cell[] | undefined {
  const cells: Cell[] = [];
  for (const column of columns ?? []) {
    const cell = cellOf(column, record, damaged);
    if (cell === undefined) return undefined;
    cells.push(cell);
  }
  return columns === undefined ? undefined : cells;
}

/** @returns `undefined`: it is a number or a text, and damaged. */
function cellOf(
  { type, at, length }: Column,
  record: Uint8Array,
  damaged: readonly Interval[],
): Cell | undefined {
  const end = at + length;
  const bytes = record.subarray(at, end);
  const inside = damaged.filter(({ from, to }) => from < end && to > at)
    .map(({ from, to }) => ({ from: Math.max(0, from - at), to: Math.min(end, to) - at }));
  if (type >= 12 && type % 2 === 0) return { length, bytes, damaged: inside };
  if (inside.length > 0) return undefined;
  if (type >= 13) return new TextDecoder().decode(bytes);
  if (type === 0) return null;
  if (type === 8 || type === 9) return type - 8;
  if (type === 7) {
    return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getFloat64(0);
  }
  const sign = (bytes[0] ?? 0) >= 128 ? -1 : 0;
  const value = bytes.reduce((sum, byte) => sum * 256 + byte, sign);
  return Number.isSafeInteger(value) ? value : undefined;
}

/** SQLite's varint: 7 bits a byte, big-endian; beyond 2^53 it is none of ours. */
function varint(bytes: Uint8Array, at: number): { value: number; length: number } | undefined {
  let value = 0;
  for (let i = 0; i < 8; i++) {
    const byte = bytes[at + i];
    if (byte === undefined) return undefined;
    value = value * 128 + (byte & 0x7f);
    if (byte < 0x80) return Number.isSafeInteger(value) ? { value, length: i + 1 } : undefined;
  }
  return undefined;
}

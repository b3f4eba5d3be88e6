/**
 * Pages of a file that SQLite itself refuses to read, and the write-ahead log over them:
 * https://www.sqlite.org/fileformat2.html
 *
 * For files that nobody uses: it reads them as plain files, and closing such a
 * descriptor drops the locks that SQLite holds on the file in this process. It
 * takes no locks and makes no files, so that a damaged queue stays as it is.
 */

import { logPathOf } from "../sqlite/file_identity.ts";

/** Every database of ours has pages of this size. */
const OUR_PAGE_BYTES = 4096;
const FILE_HEADER_BYTES = 100;
const WAL_HEADER_BYTES = 32;
const FRAME_HEADER_BYTES = 24;
/** What is read at a time. */
const CHUNK_BYTES = 256 * 1024;
const CACHED_CHUNKS = 32;
/** Behind the end of the file and its log: 4 GiB that were cut off. */
const MAX_MISSING_PAGES = 2 ** 20;
/** SQLite never uses the page that holds this byte. */
const PENDING_BYTE = 0x40000000;

/** What a page is, by the map that auto-vacuum keeps. */
export const PageKind = { ROOT: 1, FREE: 2, FIRST_OVERFLOW: 3, OVERFLOW: 4, TREE: 5 } as const;

/** An entry of that map; `kind` is one of {@linkcode PageKind}. */
export interface PageOwner {
  readonly kind: number;
  /** The page that points to it; 0 for a root or a free page. */
  readonly parent: number;
}

/** Reads pieces of a file that may be shorter than it should be. */
class FileReader {
  readonly #file: Deno.FsFile;
  readonly #chunks = new Map<number, Uint8Array>();
  readonly size: number;

  constructor(path: string) {
    this.#file = Deno.openSync(path, { read: true });
    this.size = this.#file.statSync().size;
  }

  /** Exactly `length` bytes, not to be changed, or `undefined` when the file or the disk has fewer. */
  read(offset: number, length: number): Uint8Array | undefined {
    if (offset < 0 || offset + length > this.size) return undefined;
    const start = offset - offset % CHUNK_BYTES;
    if (offset + length <= start + CHUNK_BYTES) {
      const piece = this.#chunk(start).subarray(offset - start, offset - start + length);
      if (piece.length === length) return piece;
    }
    const piece = this.#readAt(offset, length);
    return piece.length === length ? piece : undefined;
  }

  #chunk(start: number): Uint8Array {
    const cached = this.#chunks.get(start);
    if (cached !== undefined) {
      this.#chunks.delete(start);
      this.#chunks.set(start, cached);
      return cached;
    }
    const chunk = this.#readAt(start, Math.min(CHUNK_BYTES, this.size - start));
    this.#chunks.set(start, chunk);
    if (this.#chunks.size > CACHED_CHUNKS) {
      const [oldest] = this.#chunks.keys();
      if (oldest !== undefined) this.#chunks.delete(oldest);
    }
    return chunk;
  }

  /** What can be read: less than asked for at a sector that the disk cannot give back. */
  #readAt(offset: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    let at = 0;
    try {
      this.#file.seekSync(offset, Deno.SeekMode.Start);
      while (at < length) {
        const n = this.#file.readSync(bytes.subarray(at));
        if (n === null) break;
        at += n;
      }
    } catch (error) {
      // EIO; a page of it is a damaged page like any other.
      if (!(error instanceof Error)) throw error;
    }
    return bytes.subarray(0, at);
  }

  close(): void {
    this.#file.close();
  }
}

/** The pages of a database, as of the last commit in its log. */
export class DatabasePages implements Disposable {
  readonly pageBytes: number;
  /** How many pages there are, or should be. */
  readonly pageCount: number;
  /** Whether the first page is that of a database. */
  readonly hasHeader: boolean;
  readonly hasLog: boolean;
  /** Frames of the log behind the last intact commit, which count for nothing. */
  readonly brokenLogFrames: number;
  readonly #file: FileReader;
  readonly #log: FileReader | undefined;
  /** Whether auto-vacuum keeps maps of owners, as in every queue. */
  readonly #hasMaps: boolean;
  /** Where in the log the newest version of a page is. */
  readonly #inLog = new Map<number, number>();

  private constructor(file: FileReader, log: FileReader | undefined) {
    this.#file = file;
    this.#log = log;
    this.hasLog = log !== undefined && log.size > 0;
    const logPageBytes = log?.read(0, WAL_HEADER_BYTES);
    this.pageBytes = pageBytesIn(file.read(0, FILE_HEADER_BYTES)) ??
      validPageBytes(logPageBytes === undefined ? 0 : uint32(logPageBytes, 8)) ?? OUR_PAGE_BYTES;
    const { pageCount, brokenFrames } = this.#readLog();
    this.brokenLogFrames = brokenFrames;
    const filePages = Math.floor(file.size / this.pageBytes);
    // Of the newest version, which may be in the log.
    const header = this.#inLog.has(1)
      ? log?.read(this.#inLog.get(1) ?? 0, FILE_HEADER_BYTES)
      : file.read(0, FILE_HEADER_BYTES);
    this.hasHeader = header !== undefined && pageBytesIn(header) !== undefined;
    this.#hasMaps = !this.hasHeader || header === undefined || uint32(header, 52) > 0;
    const promised = this.hasHeader && header !== undefined ? uint32(header, 28) : 0;
    // A damaged header or log may claim any number. Each page that is there is looked at, and
    // so are those that are missing, as far as a file can have been cut short.
    const frames = Math.floor((log?.size ?? 0) / this.pageBytes);
    const claimed = pageCount ?? Math.max(filePages, promised);
    this.pageCount = Math.min(claimed, filePages + frames + MAX_MISSING_PAGES);
  }

  /**
   * Opens the file and, where there is one and it may be read, its log.
   *
   * @throws {Error} Of Deno's file system.
   */
  static open(path: string, mayReadLog: boolean = true): DatabasePages {
    const file = new FileReader(path);
    let log: FileReader | undefined;
    try {
      if (mayReadLog) log = new FileReader(logPathOf(path));
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) {
        file.close();
        throw error;
      }
    }
    return new DatabasePages(file, log);
  }

  /** A number of the file's header (1.3 of the format). */
  headerNumber(offset: number): number {
    const page = this.page(1);
    return page === undefined ? 0 : uint32(page, offset);
  }

  /** Not to be changed; `undefined`: it cannot be read. */
  page(number: number): Uint8Array | undefined {
    if (!this.has(number)) return undefined;
    const logOffset = this.#inLog.get(number);
    return logOffset === undefined
      ? this.#file.read((number - 1) * this.pageBytes, this.pageBytes)
      : this.#log?.read(logOffset, this.pageBytes);
  }

  /** Whether there should be such a page. */
  has(number: number): boolean {
    return Number.isInteger(number) && number >= 1 && number <= this.pageCount;
  }

  /** Who points to a page; `undefined`: it is such a map itself, or the map is damaged. */
  ownerOf(number: number): PageOwner | undefined {
    const map = this.#mapOf(number);
    if (number <= map || !this.has(number) || !this.#hasMaps) return undefined;
    const bytes = this.#soundMap(map);
    return bytes === undefined ? undefined : entryOf(bytes, number - map - 1);
  }

  /** The page that has this owner, where the map knows one. */
  pageOwnedBy(kind: number, parent: number): number | undefined {
    if (!this.#hasMaps) return undefined;
    const step = Math.floor(this.pageBytes / 5) + 1;
    // Pages that follow each other in a list mostly do so in the file.
    const near = this.ownerOf(parent + 1);
    if (near?.kind === kind && near.parent === parent) return parent + 1;
    for (let map = this.#mapOf(2); map <= this.pageCount; map = this.#mapOf(map + step)) {
      const bytes = this.#soundMap(map);
      if (bytes === undefined) continue;
      for (let i = 0; 5 * i + 5 <= bytes.length; i++) {
        if (bytes[5 * i] === kind && uint32(bytes, 5 * i + 1) === parent) return map + 1 + i;
      }
    }
    return undefined;
  }

  /** Whether a page is a map of owners. */
  isMap(number: number): boolean {
    return this.#hasMaps && number > 1 && this.#mapOf(number) === number;
  }

  /** Whether it is the page that SQLite never uses. */
  isReserved(number: number): boolean {
    return number === Math.floor(PENDING_BYTE / this.pageBytes) + 1;
  }

  [Symbol.dispose](): void {
    this.#file.close();
    this.#log?.close();
  }

  #mapOf(number: number): number {
    const step = Math.floor(this.pageBytes / 5) + 1;
    const map = Math.floor((number - 2) / step) * step + 2;
    return this.isReserved(map) ? map + 1 : map;
  }

  #checkedMaps = new Map<number, boolean>();

  #soundMap(map: number): Uint8Array | undefined {
    const bytes = this.page(map);
    if (bytes === undefined) return undefined;
    let sound = this.#checkedMaps.get(map);
    if (sound === undefined) {
      sound = true;
      for (let i = 0; 5 * i + 5 <= bytes.length && this.has(map + 1 + i); i++) {
        const { kind, parent } = entryOf(bytes, i);
        // The reserved page alone has an empty entry; a map of zeros knows no owner at all.
        const isKind = kind >= PageKind.ROOT || this.isReserved(map + 1 + i);
        if (!isKind || kind > PageKind.TREE || parent > this.pageCount) sound = false;
      }
      this.#checkedMaps.set(map, sound);
    }
    return sound ? bytes : undefined;
  }

  /** Finds the newest version of each page, up to the last commit that is whole. */
  #readLog(): { pageCount: number | undefined; brokenFrames: number } {
    let pageCount: number | undefined;
    let brokenFrames = 0;
    const log = this.#log;
    const header = log?.read(0, WAL_HEADER_BYTES);
    if (log === undefined || header === undefined) return { pageCount, brokenFrames };
    const frameBytes = FRAME_HEADER_BYTES + this.pageBytes;
    const frames = Math.floor((log.size - WAL_HEADER_BYTES) / frameBytes);
    const magic = uint32(header, 0);
    const littleEndian = magic === 0x377f0682;
    const sum = new LogChecksum(littleEndian);
    sum.add(header.subarray(0, 24));
    const sound = (littleEndian || magic === 0x377f0683) && sum.equals(header, 24) &&
      uint32(header, 8) === this.pageBytes;
    if (!sound) return { pageCount, brokenFrames: Math.max(0, frames) };
    const pending = new Map<number, number>();
    let committed = 0, frame = 0;
    for (; frame < frames; frame++) {
      const offset = WAL_HEADER_BYTES + frame * frameBytes;
      const head = log.read(offset, FRAME_HEADER_BYTES)?.slice();
      const bytes = log.read(offset + FRAME_HEADER_BYTES, this.pageBytes);
      if (head === undefined || bytes === undefined) break;
      // Of the log's previous round.
      if (uint32(head, 8) !== uint32(header, 16) || uint32(head, 12) !== uint32(header, 20)) {
        return { pageCount, brokenFrames: frame - committed };
      }
      sum.add(head.subarray(0, 8));
      sum.add(bytes);
      if (!sum.equals(head, 16)) {
        brokenFrames = frames - committed;
        break;
      }
      pending.set(uint32(head, 0), offset + FRAME_HEADER_BYTES);
      if (uint32(head, 4) === 0) continue;
      pageCount = uint32(head, 4);
      committed = frame + 1;
      for (const [page, at] of pending) this.#inLog.set(page, at);
      pending.clear();
    }
    return { pageCount, brokenFrames: Math.max(brokenFrames, frame - committed) };
  }
}

/** The checksum of a log; it goes on from frame to frame. */
class LogChecksum {
  readonly #littleEndian: boolean;
  #a = 0;
  #b = 0;

  constructor(littleEndian: boolean) {
    this.#littleEndian = littleEndian;
  }

  add(bytes: Uint8Array): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let a = this.#a, b = this.#b;
    for (let at = 0; at + 8 <= bytes.length; at += 8) {
      a = (a + view.getUint32(at, this.#littleEndian) + b) >>> 0;
      b = (b + view.getUint32(at + 4, this.#littleEndian) + a) >>> 0;
    }
    this.#a = a;
    this.#b = b;
  }

  equals(bytes: Uint8Array, offset: number): boolean {
    return uint32(bytes, offset) === this.#a && uint32(bytes, offset + 4) === this.#b;
  }
}

function pageBytesIn(header: Uint8Array | undefined): number | undefined {
  if (header === undefined) return undefined;
  const magic = new TextDecoder().decode(header.subarray(0, 16));
  if (magic !== "SQLite format 3\0") return undefined;
  const size = uint16(header, 16);
  // Ours reserve nothing at the end of a page.
  return header[20] === 0 ? validPageBytes(size === 1 ? 65536 : size) : undefined;
}

function validPageBytes(size: number): number | undefined {
  return size >= 512 && size <= 65536 && (size & (size - 1)) === 0 ? size : undefined;
}

function entryOf(map: Uint8Array, index: number): PageOwner {
  return { kind: map[5 * index] ?? 0, parent: uint32(map, 5 * index + 1) };
}

/** Big-endian, as everything in the file. */
export function uint32(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) * 2 ** 24) + ((bytes[at + 1] ?? 0) << 16) + ((bytes[at + 2] ?? 0) << 8) +
    (bytes[at + 3] ?? 0);
}

/** Big-endian. */
export function uint16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) + (bytes[at + 1] ?? 0);
}

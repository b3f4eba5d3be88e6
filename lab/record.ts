/**
 * The record file: what a recording server read, when, and from which
 * connection. The recorder writes bytes as it got them from `recv()` and cuts
 * nothing; packets are cut here, when the record is read.
 *
 * Layout: entries, one after the other, all integers little-endian.
 *
 * | bytes | meaning |
 * |---|---|
 * | 0..3 | kind of entry, see {@linkcode EntryKind} |
 * | 4..7 | number of the connection, from 1 |
 * | 8..15 | milliseconds since 1970 (float64), advancing monotonically within a process |
 * | 16..19 | length of the body |
 * | 20.. | body: the framing (start), the peer's address (open), bytes (data) |
 *
 * A server killed while it wrote leaves a last entry that is cut short; what is
 * there of its body counts as read.
 *
 * @module
 */

/** Size of an entry without its body. */
export const ENTRY_HEADER_BYTES = 20;

/** Kinds of entries in a record file. */
export const EntryKind = {
  /** The recorder started; the body names the framing. */
  START: 0,
  /** A connection was accepted; the body is the peer's address. */
  OPEN: 1,
  /** Bytes were read. */
  DATA: 2,
  /** The peer's FIN was read. */
  FIN: 3,
  /** The connection died: a reset or a timeout. */
  RESET: 4,
  /** The recorder itself ended the connection. */
  CLOSED: 5,
} as const;

/** How packets are told apart on the wire. */
export type Framing = "lines" | "length32";

/** One packet as the server read it. */
export interface RecordedPacket {
  /** The bytes on the wire, with the newline or the length in front. */
  readonly bytes: Uint8Array;
  /** When its last byte was read: milliseconds since 1970. */
  readonly readAtMs: number;
}

/** How a connection ended, as the server's application saw it. */
export type ConnectionEnd = "fin" | "reset" | "closed" | "open";

/** All that was read from one connection. */
export interface RecordedConnection {
  /** From 1, over all record files read together. */
  readonly number: number;
  /** `"192.0.2.2:50123"`. */
  readonly peer: string;
  /** Whole packets in the order read. */
  readonly packets: readonly RecordedPacket[];
  /** Bytes after the last whole packet. */
  readonly partialBytes: number;
  /** The last thing known; `"open"` if neither side had ended it. */
  readonly end: ConnectionEnd;
}

/** What a server read, by connection. */
export type Record = readonly RecordedConnection[];

/** Fills in an entry's header at the start of `target`. */
export function writeEntryHeader(
  target: Uint8Array<ArrayBuffer>,
  kind: number,
  connection: number,
  timeMs: number,
  bodyBytes: number,
): void {
  const view = new DataView(target.buffer, target.byteOffset);
  view.setUint32(0, kind, true);
  view.setUint32(4, connection, true);
  view.setFloat64(8, timeMs, true);
  view.setUint32(16, bodyBytes, true);
}

/**
 * Finds where the next packet ends.
 *
 * @returns The offset behind it, or -1 while it is incomplete.
 */
export function packetEnd(framing: Framing, bytes: Uint8Array, start: number): number {
  if (framing === "lines") {
    const newline = bytes.indexOf(10, start);
    return newline < 0 ? -1 : newline + 1;
  }
  if (bytes.length - start < 4) return -1;
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(start);
  const end = start + 4 + length;
  return end > bytes.length ? -1 : end;
}

class Connection implements RecordedConnection {
  packets: RecordedPacket[] = [];
  end: ConnectionEnd = "open";
  #partial = new Uint8Array(0);

  constructor(readonly number: number, readonly peer: string) {}

  get partialBytes(): number {
    return this.#partial.length;
  }

  append(framing: Framing, body: Uint8Array, readAtMs: number): void {
    let bytes = new Uint8Array(body);
    if (this.#partial.length > 0) {
      bytes = new Uint8Array(this.#partial.length + body.length);
      bytes.set(this.#partial);
      bytes.set(body, this.#partial.length);
    }
    let start = 0;
    for (let end = packetEnd(framing, bytes, 0); end > 0; end = packetEnd(framing, bytes, start)) {
      this.packets.push({ bytes: bytes.subarray(start, end), readAtMs });
      start = end;
    }
    this.#partial = bytes.slice(start);
  }
}

/**
 * Reads a record file while it grows.
 *
 * @example Wait until the server has read 1000 packets
 * ```ts ignore
 * const reader = new RecordReader("server.record");
 * while (reader.update().packetCount < 1000) await delay(20);
 * ```
 */
export class RecordReader {
  /** Whole packets read so far, over all connections. */
  packetCount = 0;
  /** Bytes read so far, over all connections. */
  byteCount = 0;
  #path: string;
  #framing: Framing | undefined;
  #offset = 0;
  #connections: Connection[] = [];
  #byNumber: Map<number, Connection> = new Map();

  constructor(path: string) {
    this.#path = path;
  }

  /** The connections seen so far; the arrays grow with further updates. */
  get connections(): Record {
    return this.#connections;
  }

  /**
   * Takes in what was appended since the last time.
   *
   * @param final Also takes an entry that is cut short at the end of the file;
   *   only right once the writer is dead.
   */
  update(final = false): this {
    const file = Deno.openSync(this.#path);
    try {
      const length = file.statSync().size - this.#offset;
      const bytes = new Uint8Array(length);
      file.seekSync(this.#offset, Deno.SeekMode.Start);
      let filled = 0;
      while (filled < length) {
        const n = file.readSync(bytes.subarray(filled));
        if (n === null) throw new Error(`${this.#path} became shorter while it was read`);
        filled += n;
      }
      this.#offset += this.#takeEntries(bytes, final);
    } finally {
      file.close();
    }
    return this;
  }

  #takeEntries(bytes: Uint8Array, final: boolean): number {
    const view = new DataView(bytes.buffer);
    let at = 0;
    while (bytes.length - at >= ENTRY_HEADER_BYTES) {
      const bodyStart = at + ENTRY_HEADER_BYTES;
      const bodyEnd = bodyStart + view.getUint32(at + 16, true);
      if (bodyEnd > bytes.length && !final) break;
      this.#take(
        view.getUint32(at, true),
        view.getUint32(at + 4, true),
        view.getFloat64(at + 8, true),
        bytes.subarray(bodyStart, Math.min(bodyEnd, bytes.length)),
      );
      at = Math.min(bodyEnd, bytes.length);
    }
    return at;
  }

  #take(kind: number, number: number, timeMs: number, body: Uint8Array): void {
    if (kind === EntryKind.START) {
      const framing = new TextDecoder().decode(body);
      if (framing !== "lines" && framing !== "length32") {
        throw new Error(`${this.#path}: unknown framing "${framing}"`);
      }
      this.#framing = framing;
      return;
    }
    if (kind === EntryKind.OPEN) {
      const peer = new TextDecoder().decode(body);
      const connection = new Connection(this.#connections.length + 1, peer);
      this.#connections.push(connection);
      this.#byNumber.set(number, connection);
      return;
    }
    const connection = this.#byNumber.get(number);
    if (connection === undefined || this.#framing === undefined) {
      throw new Error(`${this.#path}: entry for connection ${number}, which was never opened`);
    }
    switch (kind) {
      case EntryKind.DATA: {
        const before = connection.packets.length;
        connection.append(this.#framing, body, timeMs);
        this.packetCount += connection.packets.length - before;
        this.byteCount += body.length;
        return;
      }
      case EntryKind.FIN:
        connection.end = "fin";
        return;
      case EntryKind.RESET:
        connection.end = "reset";
        return;
      case EntryKind.CLOSED:
        connection.end = "closed";
        return;
      default:
        throw new Error(`${this.#path}: unknown entry kind ${kind}`);
    }
  }
}

/**
 * Reads finished record files, in the order in which their servers ran.
 *
 * @param paths One file for each life of the server.
 * @returns The connections of all of them, numbered through from 1.
 */
export function readRecord(...paths: string[]): Record {
  const connections = paths.flatMap((path) => new RecordReader(path).update(true).connections);
  return connections.map(({ peer, packets, partialBytes, end }, i) => (
    { number: i + 1, peer, packets, partialBytes, end }
  ));
}

/**
 * Compares what was sent with what a server read.
 *
 * @module
 */

import type { ConnectionEnd, Record } from "./record.ts";

/** What one connection carried, in positions of the list of sent packets. */
export interface ConnectionSummary {
  /** Number of the connection in the record. */
  readonly number: number;
  /** How many whole packets were read from it. */
  readonly packets: number;
  /** Position of its first packet; undefined when there was none. */
  readonly first: number | undefined;
  /** Position of its last packet. */
  readonly last: number | undefined;
  /** Bytes of a packet that never became whole. */
  readonly partialBytes: number;
  /** How it ended. */
  readonly end: ConnectionEnd;
}

/** The outcome of {@linkcode compare}. Positions count from 0 in the list of sent packets. */
export interface Comparison {
  /** How many packets were sent. */
  readonly sent: number;
  /** How many of them were read at least once. */
  readonly delivered: number;
  /** Positions of those that were never read. */
  readonly lost: readonly number[];
  /** Packets read beyond the first time, over all connections. */
  readonly duplicated: number;
  /** Those of them that came twice over the same connection. */
  readonly duplicatedWithinConnection: number;
  /** How often a packet came behind a later one of the same connection. */
  readonly outOfOrderWithinConnection: number;
  /** How often a connection skipped forward over packets. */
  readonly gapsWithinConnection: number;
  /** Whole packets that were never sent: torn, merged or invented. */
  readonly unknown: number;
  /** One entry for each connection. */
  readonly connections: readonly ConnectionSummary[];
}

/**
 * Compares packet by packet.
 *
 * @param sent The packets as they go on the wire, in order. Each must differ
 *   from all others, or a loss could hide behind its twin.
 * @param record What the server read.
 * @throws {RangeError} Two sent packets are the same.
 */
export function compare(sent: Iterable<Uint8Array | string>, record: Record): Comparison {
  const position = new Map<string, number>();
  for (const packet of sent) {
    const key = keyOf(packet);
    const twin = position.get(key);
    if (twin !== undefined) {
      throw new RangeError(`sent packets ${twin} and ${position.size} are the same`);
    }
    position.set(key, position.size);
  }

  const seen = new Uint8Array(position.size);
  /** Connection that carried the packet last, to tell the two kinds of duplicates apart. */
  const carriedBy = new Uint32Array(position.size);
  let delivered = 0;
  let duplicated = 0;
  let duplicatedWithinConnection = 0;
  let outOfOrderWithinConnection = 0;
  let gapsWithinConnection = 0;
  let unknown = 0;

  const connections = record.map((connection): ConnectionSummary => {
    let first: number | undefined;
    let last: number | undefined;
    for (const packet of connection.packets) {
      const at = position.get(keyOf(packet.bytes));
      if (at === undefined) {
        unknown++;
        continue;
      }
      if (seen[at] === 0) {
        seen[at] = 1;
        delivered++;
      } else {
        duplicated++;
        if (carriedBy[at] === connection.number) duplicatedWithinConnection++;
      }
      carriedBy[at] = connection.number;
      first ??= at;
      if (last !== undefined && at < last) outOfOrderWithinConnection++;
      if (last !== undefined && at > last + 1) gapsWithinConnection++;
      last = at;
    }
    const { number, packets, partialBytes, end } = connection;
    return { number, packets: packets.length, first, last, partialBytes, end };
  });

  const lost: number[] = [];
  for (let at = 0; at < seen.length; at++) if (seen[at] === 0) lost.push(at);
  return {
    sent: position.size,
    delivered,
    lost,
    duplicated,
    duplicatedWithinConnection,
    outOfOrderWithinConnection,
    gapsWithinConnection,
    unknown,
    connections,
  };
}

// As Encoding defines it, "latin1" is windows-1252: every byte value has a
// character of its own, so different packets have different keys.
const latin1 = new TextDecoder("latin1");
const utf8 = new TextEncoder();

function keyOf(packet: Uint8Array | string): string {
  return latin1.decode(typeof packet === "string" ? utf8.encode(packet) : packet);
}

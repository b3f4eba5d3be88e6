/** From pages of rows to packets and dead letters, for a file and for a database. */

import { checkFields } from "../../base/options.ts";
import { placesOf } from "../../base/packet_batch.ts";
import type { PacketCount } from "../store/types.ts";
import type {
  InspectedDeadLetter,
  InspectedPacket,
  InspectQuery,
  InspectRange,
} from "./inspection.ts";

/** A page is so many rows, or as many as have so many bytes of payload. */
export const PAGE_ROWS = 256;
export const PAGE_BYTES: number = 4 * 1024 * 1024;

/** What a payload is that was not asked for. */
export const NO_BYTES = new Uint8Array(0);

/** Packets that lie in one row. */
export interface InspectedBatch {
  readonly firstId: number;
  /** Where each ends. */
  readonly ends: Uint32Array;
  /** Of all of them; `undefined`: it was not asked for. */
  readonly payload: Uint8Array | undefined;
  readonly enqueuedAtMs: number;
  /** By the wall clock; `Infinity`: never. */
  readonly expiresAtMs: number;
}

/** Rows of packets that follow each other, and what it takes to judge them, of one moment. */
export interface PacketPage {
  readonly batches: readonly InspectedBatch[];
  readonly removedThroughId: number;
  readonly sentThroughId: number;
  /** Now, by the wall clock. */
  readonly nowMs: number;
  /** The last id of the page, where there may be more behind it. */
  readonly through: number | undefined;
  /** Why what follows the batches cannot be read. */
  readonly damage: unknown;
}

export interface LetterPage {
  readonly items: readonly InspectedDeadLetter[];
  /** Why what follows them cannot be read. */
  readonly damage: unknown;
}

export const NO_PACKETS: PacketPage = {
  batches: [],
  removedThroughId: 0,
  sentThroughId: 0,
  nowMs: 0,
  through: undefined,
  damage: undefined,
};
export const NO_LETTERS: LetterPage = { items: [], damage: undefined };

export async function* packetsOnPages(
  pageAfter: (id: number) => Promise<PacketPage>,
  query: InspectQuery,
): AsyncGenerator<InspectedPacket> {
  const { payloadBytes = 0 } = query;
  for await (const { page, batch, from, to } of partsOnPages(pageAfter, query)) {
    const { sentThroughId, nowMs } = page;
    const { firstId, payload, enqueuedAtMs, expiresAtMs } = batch;
    for (const { id, start, end } of placesOf(batch)) {
      if (id < firstId + from) continue;
      if (id >= firstId + to) break;
      yield {
        id,
        enqueuedAtMs,
        expiresAtMs,
        state: expiresAtMs <= nowMs ? "expired" : id <= sentThroughId ? "sent" : "waiting",
        bytes: end - start,
        payload: payload === undefined
          ? NO_BYTES
          : end - start === payload.length && end - start <= payloadBytes
          ? payload // A large packet is alone, and need not be there twice.
          : payload.slice(start, Math.min(end, start + payloadBytes)),
      };
    }
  }
}

export async function countPacketsOnPages(
  pageAfter: (id: number) => Promise<PacketPage>,
  range: InspectRange,
): Promise<PacketCount> {
  let packets = 0, bytes = 0;
  for await (const { batch: { ends }, from, to } of partsOnPages(pageAfter, range)) {
    packets += to - from;
    bytes += (ends[to - 1] ?? 0) - (from === 0 ? 0 : ends[from - 1] ?? 0);
  }
  return { packets, bytes };
}

/** What a range has of a row: the packets from one index to before another. */
interface Part {
  readonly page: PacketPage;
  readonly batch: InspectedBatch;
  readonly from: number;
  readonly to: number;
}

async function* partsOnPages(
  pageAfter: (id: number) => Promise<PacketPage>,
  range: InspectRange,
): AsyncGenerator<Part> {
  const { toId, beforeMs } = boundsOf(range);
  let { after } = boundsOf(range);
  while (after < toId) {
    const page = await pageAfter(after);
    const firstId = Math.max(after, page.removedThroughId) + 1;
    for (const batch of page.batches) {
      if (batch.enqueuedAtMs >= beforeMs) continue;
      const from = Math.max(0, firstId - batch.firstId);
      const to = Math.min(batch.ends.length, toId + 1 - batch.firstId);
      if (from < to) yield { page, batch, from, to };
    }
    if (page.damage !== undefined) throw page.damage;
    if (page.through === undefined) return;
    after = page.through;
  }
}

export async function* lettersOnPages(
  pageAfter: (id: number) => Promise<LetterPage>,
  query: InspectQuery,
): AsyncGenerator<InspectedDeadLetter> {
  const { toId, beforeMs } = boundsOf(query);
  let { after } = boundsOf(query);
  for (;;) {
    const { items, damage } = await pageAfter(after);
    for (const letter of items) {
      if (letter.id <= toId && letter.diedAtMs < beforeMs) yield letter;
    }
    if (damage !== undefined) throw damage;
    const last = items.at(-1);
    if (last === undefined || last.id >= toId) return;
    after = last.id;
  }
}

export async function firstOf<T>(items: AsyncIterable<T>): Promise<T | undefined> {
  for await (const item of items) return item;
  return undefined;
}

const FIELDS: readonly (keyof InspectQuery)[] = ["fromId", "toId", "beforeMs", "payloadBytes"];

/**
 * A range with nothing left open.
 *
 * @throws {OptionError} It has a field that does not exist.
 */
export function boundsOf(
  range: InspectRange,
): { readonly after: number; readonly toId: number; readonly beforeMs: number } {
  checkFields("", range, FIELDS);
  const { fromId = 1, toId = Number.MAX_SAFE_INTEGER, beforeMs = Infinity } = range;
  return { after: Math.max(0, fromId - 1), toId, beforeMs };
}

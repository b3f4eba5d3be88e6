import type { QueueCounts } from "../queue/inspect/inspection.ts";
import type { StoreState } from "../queue/store/contract.ts";
import { type DeadLetter, isDeathReason } from "../queue/store/types.ts";
import { STATE } from "./sql/shared.ts";

/** A count out of an answer; what is not there is 0. */
export function numberOf(value: unknown): number {
  const number = Number(value ?? 0);
  if (Number.isSafeInteger(number)) return number;
  throw new TypeError(`${String(value)} is no count`);
}

/** Numbers as the database takes an array. */
export function arrayOf(numbers: readonly number[]): string {
  return `{${numbers.join(",")}}`;
}

/** How a queue stands, as `sendq.state_of` says it. */
type StateFields = Readonly<Record<keyof typeof STATE, string>>;

const NAMES = Object.keys(STATE);

/** Tells its numbers apart, which come as `{1,2,NULL}`. */
export function stateFields(value: unknown): StateFields {
  const parts = String(value).slice(1, -1).split(",");
  if (parts.length !== NAMES.length) throw new TypeError(`${String(value)} is no queue's state`);
  return Object.fromEntries(NAMES.map((name, i) => [name, parts[i]])) as StateFields;
}

/** The counts of a queue, out of {@linkcode stateFields}. */
export function stateOf(fields: StateFields): StoreState {
  const count = (name: keyof StoreState) => numberOf(fields[name]);
  const oldest = fields.oldestEnqueuedAtMs;
  return {
    packets: count("packets"),
    bytes: count("bytes"),
    lastId: count("lastId"),
    removedThrough: count("removedThrough"),
    sentThrough: count("sentThrough"),
    droppedPackets: count("droppedPackets"),
    droppedBytes: count("droppedBytes"),
    deadPackets: count("deadPackets"),
    deadBytes: count("deadBytes"),
    expiredPackets: count("expiredPackets"),
    gaveUpPackets: count("gaveUpPackets"),
    damagedPackets: count("damagedPackets"),
    refusedPackets: count("refusedPackets"),
    storedBytes: count("storedBytes"),
    // The database keeps the time by itself.
    ...{ writtenAtMs: 0, clockOffsetMs: 0 },
    oldestEnqueuedAtMs: oldest === "NULL" ? undefined : numberOf(oldest),
  };
}

/** The same for those who look. */
export function countsOf(state: StoreState): QueueCounts {
  const { packets, bytes, lastId, removedThrough, sentThrough } = state;
  const { droppedPackets, droppedBytes, deadPackets, deadBytes } = state;
  const { expiredPackets, gaveUpPackets, damagedPackets, refusedPackets } = state;
  return {
    ...{ packets, bytes, lastId, removedThroughId: removedThrough, sentThroughId: sentThrough },
    ...{ droppedPackets, droppedBytes, deadPackets, deadBytes },
    ...{ expiredPackets, gaveUpPackets, damagedPackets, refusedPackets },
  };
}

/** A dead letter out of a row of `sendq.dead_letter`, without its bytes. */
export function letterOf(row: Readonly<Record<string, unknown>>): Omit<DeadLetter, "payload"> {
  const { id, reason, words } = row;
  if (!isDeathReason(reason)) throw new TypeError(`no dead letter dies of ${String(reason)}`);
  return {
    id: Number(id),
    enqueuedAtMs: Number(row["enqueued_at_ms"]),
    diedAtMs: Number(row["died_at_ms"]),
    reason,
    sent: row["sent"] === true,
    attempts: Number(row["attempts"]),
    words: typeof words === "string" ? words : undefined,
  };
}

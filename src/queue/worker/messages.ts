/**
 * What goes between a queue and a store that lives in a Worker: calls, answers,
 * errors, and packets without their promises.
 *
 * @module
 */

import type { MessagePort } from "node:worker_threads";
import { type CommitOutcome, QueueFileError, type QueueFileReason } from "../../base/errors.ts";
import { SqliteError } from "../sqlite/driver.ts";
import type { CommitRequest, CommitResult, FileStore } from "../store/contract.ts";
import type { Durability, PacketSpan } from "../store/types.ts";

/** What a store can be asked for. */
export type StoreMethod = Exclude<keyof FileStore, "path" | "reopenings">;

/** What the Worker is started with. */
export interface StoreWorkerData {
  /** Its end of the channel. */
  readonly port: MessagePort;
  /** The queue's file, as it was given. */
  readonly path: string;
  /** What a commit survives. */
  readonly durability: Durability;
}

/** A method's name and arguments. Answers come in the order of the calls. */
export type StoreCall =
  | { readonly method: "commit"; readonly request: PackedCommit }
  | { readonly method: Exclude<StoreMethod, "commit">; readonly args: readonly unknown[] };

/** What a method returned or threw. The first answer of all tells the file's path. */
export type StoreAnswer =
  | { readonly value: unknown; readonly buffer?: ArrayBuffer }
  | { readonly error: PackedError; readonly buffer?: ArrayBuffer };

/** A commit's packets in one buffer, which goes to the Worker and comes back. */
export interface PackedCommit extends Omit<CommitRequest, "units"> {
  /** The bytes of all packets, from the buffer's beginning. */
  readonly buffer: ArrayBuffer;
  /** How large each packet is. */
  readonly sizes: Uint32Array;
  /** How many packets each unit has. */
  readonly unitPackets: Uint32Array;
  /** When each unit expires. */
  readonly unitExpiresAtMs: Float64Array;
}

/** A commit's result, but for the batches: who sent the packets still has them. */
export type PackedCommitResult = Omit<CommitResult, "batches">;

/**
 * Copies a commit's packets into one buffer.
 *
 * @param request The commit.
 * @param roomFor Gives a buffer of at least so many bytes.
 */
export function packCommit(
  { units, ...rest }: CommitRequest,
  roomFor: (bytes: number) => ArrayBuffer,
): PackedCommit {
  let bytes = 0, packets = 0;
  for (const unit of units) {
    bytes += unit.bytes;
    packets += unit.packets;
  }
  const buffer = roomFor(bytes);
  const target = new Uint8Array(buffer);
  const sizes = new Uint32Array(packets);
  const unitPackets = new Uint32Array(units.length);
  const unitExpiresAtMs = new Float64Array(units.length);
  let packet = 0, at = 0;
  // Units that lie one behind the other are copied as one.
  let block: Uint8Array | undefined, start = 0, end = 0;
  const copy = () => {
    if (block === undefined) return;
    target.set(block.subarray(start, end), at);
    at += end - start;
  };
  for (let i = 0; i < units.length; i++) {
    const unit = units[i];
    if (unit === undefined) break;
    if (unit.block !== block || unit.start !== end) {
      copy();
      block = unit.block;
      start = unit.start;
    }
    end = unit.start + unit.bytes;
    if (unit.sizes === undefined) sizes[packet] = unit.bytes;
    else sizes.set(unit.sizes, packet);
    packet += unit.packets;
    unitPackets[i] = unit.packets;
    unitExpiresAtMs[i] = unit.expiresAtMs;
  }
  copy();
  return { ...rest, buffer, sizes, unitPackets, unitExpiresAtMs };
}

/** The commit that was packed; its units lie in the packed one's buffer. */
export function unpackCommit(
  { buffer, sizes, unitPackets, unitExpiresAtMs, ...rest }: PackedCommit,
): CommitRequest {
  const block = new Uint8Array(buffer);
  const units: PacketSpan[] = [];
  let packet = 0, start = 0;
  for (let i = 0; i < unitPackets.length; i++) {
    const packets = unitPackets[i] ?? 0;
    let bytes = 0;
    for (let end = packet + packets, j = packet; j < end; j++) bytes += sizes[j] ?? 0;
    units.push({
      block,
      start,
      bytes,
      packets,
      sizes: packets === 1 ? undefined : sizes.subarray(packet, packet + packets),
      expiresAtMs: unitExpiresAtMs[i] ?? Infinity,
    });
    packet += packets;
    start += bytes;
  }
  return { ...rest, units };
}

/**
 * Calls back with each message. Not by `on("message")`, which looks at every byte
 * of a Uint8Array: 0.6 ms for one of 10 kB.
 */
export function listen(port: MessagePort, take: (message: MessageEvent["data"]) => void): void {
  port.addEventListener("message", (event) => {
    if (event instanceof MessageEvent) take(event.data);
  });
  port.start();
}

/** Every buffer in an answer: whoever reads it from the file has no more use for it. */
export function buffersOf(value: unknown, found: Set<ArrayBuffer> = new Set()): Set<ArrayBuffer> {
  if (value instanceof ArrayBuffer) found.add(value);
  else if (ArrayBuffer.isView(value)) buffersOf(value.buffer, found);
  else if (Array.isArray(value)) {
    for (const item of value) buffersOf(item, found);
  } else if (typeof value === "object" && value !== null && !(value instanceof Map)) {
    for (const item of Object.values(value)) buffersOf(item, found);
  }
  return found;
}

/** An error as it travels: a structured clone would lose its class and its fields. */
export interface PackedError {
  readonly name: string;
  readonly message: string;
  readonly stack: string | undefined;
  /** Of a `QueueFileError`. */
  readonly reason?: QueueFileReason;
  /** Of a `QueueFileError`. */
  readonly path?: string;
  /** Of a `QueueFileError`. */
  readonly outcome?: CommitOutcome;
  /** Of a `SqliteError`. */
  readonly code?: number;
  readonly cause?: PackedError;
}

/** Makes an error ready to travel. */
export function packError(error: unknown): PackedError {
  if (!(error instanceof Error)) {
    return { name: "Error", message: String(error), stack: undefined };
  }
  const { name, message, stack } = error;
  return {
    ...{ name, message, stack },
    ...(error instanceof QueueFileError
      ? { reason: error.reason, path: error.path, outcome: error.outcome }
      : {}),
    ...(error instanceof SqliteError ? { code: error.code } : {}),
    ...(error.cause === undefined ? {} : { cause: packError(error.cause) }),
  };
}

/** The error that has travelled, of the same class and with the same fields. */
export function unpackError(packed: PackedError): Error {
  const error = rebuild(packed);
  if (packed.stack !== undefined) error.stack = packed.stack;
  return error;
}

function rebuild({ name, message, reason, path, outcome, code, cause }: PackedError): Error {
  const options = cause === undefined ? undefined : { cause: unpackError(cause) };
  if (reason !== undefined && path !== undefined && outcome !== undefined) {
    return new QueueFileError(reason, path, message, { ...options, outcome });
  }
  if (code !== undefined) return new SqliteError(code, message, options);
  switch (name) {
    case "NotCapable":
      return new Deno.errors.NotCapable(message, options);
    case "RangeError":
      return new RangeError(message, options);
    case "TypeError":
      return new TypeError(message, options);
    default: {
      const error = new Error(message, options);
      if (error.name !== name) error.name = name;
      return error;
    }
  }
}

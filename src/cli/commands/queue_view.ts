/**
 * Looking into a queue: what `list`, `show`, `export` and `check` share,
 * and how packets look to people and to programs.
 */

import { isQueueUrl } from "../../postgres/address.ts";
import type {
  InspectedDeadLetter,
  InspectedPacket,
  Inspector,
} from "../../queue/inspect/inspection.ts";
import { QueueInspector } from "../../queue/inspect/inspector.ts";
import { isSpoolAddress, parseSpoolAddress } from "../../spool/address.ts";
import type { OptionAdder } from "../arguments/option_adder.ts";
import { fileOf, passwordOf, queueNeeds } from "../arguments/queue_place.ts";
import { checkPermissions, type Needs } from "../../permissions/permissions.ts";
import { parseId } from "../arguments/values.ts";
import { UsageError } from "../terminal/exit_code.ts";
import type { Printer } from "../terminal/output.ts";
import { unreadable } from "../terminal/stdio.ts";

/** What looking into a queue takes, for the help. */
export const LOOK_PERMISSIONS = "--allow-read=outbox.db";
/** The same of one on PostgreSQL. */
export const POSTGRES_PERMISSIONS = `A queue on PostgreSQL needs --allow-net=db1:5432 instead,
and a user with the role sendq_operator.`;

export interface RangeOptions {
  readonly dead?: boolean;
  readonly from?: number;
  readonly to?: number;
}

export function addRangeOptions(options: OptionAdder): void {
  options
    .flag("--dead", "dead letters: packets that expired, were given up or refused, or are damaged")
    .value("--from <id>", "from this id on", parseId)
    .value("--to <id>", "up to this id", parseId);
}

/** @throws {UsageError} No id can be in that range. */
export function rangeOf({ from, to }: RangeOptions): { fromId?: number; toId?: number } {
  if (from !== undefined && to !== undefined && to < from) {
    throw new UsageError("--to must not be below --from");
  }
  return {
    ...(from === undefined ? {} : { fromId: from }),
    ...(to === undefined ? {} : { toId: to }),
  };
}

export function lookNeeds(queue: string): Pick<Needs, "files" | "databases"> {
  const file = fileOf(queue);
  return file === undefined ? queueNeeds(queue) : { files: [file] };
}

/** @throws {UsageError} There is none. */
export async function openForLooking(queue: string): Promise<Inspector> {
  checkPermissions(lookNeeds(queue));
  requireQueue(queue);
  if (isSpoolAddress(queue)) return await inspectorInSpool(queue);
  if (!isQueueUrl(queue)) return await QueueInspector.open(queue);
  const { postgresInspector } = await import("../../postgres/inspector.ts");
  return await postgresInspector({ url: queue, ...passwordOf(queue) });
}

/** @throws {OptionError} The spool has no queue of this name. */
export async function inspectorInSpool(address: string): Promise<Inspector> {
  const { spoolInspector } = await import("../../spool/spool.ts");
  const { file, name } = parseSpoolAddress(address);
  return await spoolInspector(file, name);
}

/**
 * Sees to it that a command about a queue does not make one. In a database nobody would.
 *
 * @throws {UsageError} There is none.
 */
export function requireQueue(queue: string): void {
  const path = fileOf(queue);
  if (path === undefined) return;
  try {
    // Looks, and never opens: SQLite alone does that.
    Deno.statSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) throw new UsageError(`there is no queue at ${path}`);
    throw unreadable(error, path, path);
  }
}

/** A packet as a JSON object without its payload. */
export function packetFields(
  { id, enqueuedAtMs, expiresAtMs, bytes, state }: InspectedPacket,
): Record<string, unknown> {
  return {
    id,
    enqueuedAt: timeOf(enqueuedAtMs),
    ...(expiresAtMs === Infinity ? {} : { expiresAt: expiryOf(expiresAtMs) }),
    bytes,
    state,
  };
}

/** A dead letter as a JSON object without its payload. */
export function deadLetterFields(
  { id, enqueuedAtMs, diedAtMs, reason, sent, attempts, words, bytes }: InspectedDeadLetter,
): Record<string, unknown> {
  return {
    id,
    enqueuedAt: timeOf(enqueuedAtMs),
    diedAt: timeOf(diedAtMs),
    reason,
    sent,
    attempts,
    ...(words === undefined ? {} : { words }),
    bytes,
  };
}

/** A multiple of 3, so that the pieces' base64 is that of the whole. */
const BASE64_PIECE_BYTES = 48 * 1024;

/**
 * Writes a line of JSON with a payload as base64. In pieces: no string holds the base64
 * of the largest packets.
 *
 * @param fields What stands before the payload; at least one.
 * @returns Whether somebody still reads.
 */
export async function printWithPayload(
  out: Printer,
  fields: Record<string, unknown>,
  payload: Uint8Array,
): Promise<boolean> {
  const encoder = new TextEncoder();
  let text = `${JSON.stringify(fields).slice(0, -1)},"payload":"`;
  for (let at = 0; at < payload.length; at += BASE64_PIECE_BYTES) {
    text += payload.subarray(at, at + BASE64_PIECE_BYTES).toBase64();
    if (!await out.bytes(encoder.encode(text))) return false;
    text = "";
  }
  return await out.line(`${text}"}`);
}

/** ISO 8601, in UTC. A damaged file may hold any number. */
export function timeOf(ms: number): string {
  return Math.abs(ms) <= LAST_TIME_MS ? new Date(ms).toISOString() : "unknown";
}

/** The latest moment that a calendar has. */
const LAST_TIME_MS = 8.64e15;

/** A time to live may reach beyond the calendar; then it is milliseconds since 1970. */
function expiryOf(ms: number): string | number {
  return Math.abs(ms) <= LAST_TIME_MS ? timeOf(ms) : ms;
}

const ESCAPES: { readonly [character: string]: string } = {
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
  "\\": "\\\\",
};

/**
 * Bytes as text that a terminal cannot take for a command.
 *
 * @param more Whether there are more of them.
 */
export function previewOf(bytes: Uint8Array, more: boolean): string {
  let text = "";
  // Not to end inside a character; what is no UTF-8 comes as bytes.
  const decoder = new TextDecoder("utf-8", { fatal: true });
  try {
    text = decoder.decode(bytes, { stream: more }).replaceAll(
      /[\p{C}\p{Z}\\]/gu,
      (character) => character === " " ? " " : ESCAPES[character] ?? escaped(character),
    );
  } catch {
    for (const byte of bytes) {
      const character = String.fromCharCode(byte);
      text += byte >= 0x20 && byte < 0x7f && character !== "\\"
        ? character
        : ESCAPES[character] ?? `\\x${hex(byte, 2)}`;
    }
  }
  return more ? `${text}…` : text;
}

function escaped(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  return code < 0x80 ? `\\x${hex(code, 2)}` : `\\u{${code.toString(16)}}`;
}

const DUMP_BYTES = 16;

/** Bytes as lines of 16: where, in hexadecimal, as text. */
export function* hexDump(bytes: Uint8Array): Generator<string> {
  for (let at = 0; at < bytes.length; at += DUMP_BYTES) {
    const row = [...bytes.subarray(at, at + DUMP_BYTES)];
    const octets = row.map((byte) => hex(byte, 2));
    const halves = [octets.slice(0, 8).join(" "), octets.slice(8).join(" ")].join("  ");
    const text = row.map((byte) => byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : ".");
    yield `${hex(at, 8)}  ${halves.padEnd(48)}  |${text.join("")}|`;
  }
}

function hex(number: number, digits: number): string {
  return number.toString(16).padStart(digits, "0");
}

/** `sendq import`: packets that `sendq export` has written, into a queue. */

import { Command } from "commander";
import { systemClock } from "../../base/clock.ts";
import { unlessAborted } from "../../base/waits.ts";
import { type ByteSource, SLOW_STORE, whenStoreIsSlow } from "../../framing/input_pump.ts";
import type { IdRange } from "../../queue/options.ts";
import type { OutboundQueue } from "../../queue/queue.ts";
import {
  addQueueOption,
  addQueueOptions,
  asUsageError,
  type QueueCommandOptions,
  queueOptionsOf,
} from "../arguments/options.ts";
import { OptionAdder } from "../arguments/option_adder.ts";
import { KEEPS_DEAD_LETTERS, openQueue, queueNeeds } from "../arguments/queue_place.ts";
import { checkPermissions } from "../../permissions/permissions.ts";
import { CommandError, EXIT_CODE_HELP, ExitCode, explain } from "../terminal/exit_code.ts";
import { formatBytes, formatIds, formatPackets, formatThings } from "../terminal/figures.ts";
import { SizeLimit, StopSignals } from "../session/signals.ts";
import { LogConsole, printOutcome } from "../terminal/output.ts";
import { named, STDIN_NAMES, type Stdio, unreadable } from "../terminal/stdio.ts";

const HELP = `
Each line is a JSON object as sendq export writes it: its payload, as base64, is
the packet; expiresAt, where it is there, goes on to count, so that what has
expired becomes a dead letter; everything else, also its id and its age, begins
anew. The packets go to the end of the queue, in order, and a sender in another
process is woken at once. Dead letters with the reason damaged are left out, and
counted: their bytes are not those that were stored.

At the first line that is wrong import stops: the message has its number, and
how many packets before it are stored. --dry-run looks at all lines and stores
nothing.

SIGTERM, SIGINT or SIGHUP stop it: it says how many packets are stored, up to
which line, and the exit code is 75.

For packets that are not JSON lines there is sendq enqueue with --input.

Examples:
  sendq import packets.jsonl -q outbox.db
  sendq export -q old.db | sendq import -q new.db
  jq -c 'select(.bytes < 1000)' packets.jsonl |
    sendq import -q outbox.db --dry-run

Permissions:
  deno run --allow-read=outbox.db,outbox.db.lock \\
    --allow-write=outbox.db,outbox.db.lock \\
    src/cli/main.ts import -q outbox.db ...
and --allow-read for the file; on PostgreSQL --allow-net for its servers, and
nothing for the queue.

${EXIT_CODE_HELP}
`;

interface ImportOptions extends QueueCommandOptions {
  /** False by `--no-expiry`. */
  readonly expiry: boolean;
  readonly dryRun?: boolean;
}

/** What is stored at a time. */
const BATCH_PACKETS = 4096;
const BATCH_BYTES = 1024 * 1024;
/** What is read at a time. */
const READ_BYTES = 64 * 1024;
/** What a line may have besides its payload. */
const FIELDS_BYTES = 64 * 1024;

export function importCommand(finish: (code: ExitCode) => void, io: Stdio): Command {
  const command = new Command("import")
    .summary("store the packets that export has written")
    .description("Store packets that sendq export has written as JSON lines.")
    .argument("[file]", "the file (default, and -: stdin)");
  const options = new OptionAdder(command).group("Packets");
  addQueueOption(options);
  options
    .flag("--no-expiry", "leave out the lines' expiresAt")
    .flag("--dry-run", "look at every line, and store nothing");
  addQueueOptions(options, { makesDeadLetters: false });
  return command
    .addHelpText("after", HELP)
    .action(async (file: string | undefined, options: ImportOptions) =>
      finish(await importPackets(file, options, io))
    );
}

async function importPackets(
  given: string | undefined,
  options: ImportOptions,
  io: Stdio,
): Promise<ExitCode> {
  const file = given === undefined || STDIN_NAMES.has(given) ? undefined : given;
  const { queue: path, dryRun = false, maxPacketBytes, expiry } = options;
  checkPermissions({
    ...(dryRun ? {} : queueNeeds(path)),
    files: file === undefined ? [] : [file],
  });
  using source = openSource(file, io);
  const lines = linesOf(source, 2 * maxPacketBytes + FIELDS_BYTES);
  using _limit = new SizeLimit();
  await using queue = dryRun ? undefined : await open(path, options);
  const log = LogConsole.on(io, { format: "text", level: "info", live: false });
  using signals = new StopSignals();
  const stop = new AbortController();
  const stopped = signals.first.then((signal) => {
    stop.abort();
    return signal;
  });
  const batch = new Batch(queue, stop.signal, (words) => log.warn(words));
  let damagedLetters = 0;
  try {
    for (;;) {
      // Who stops it does not wait for a pipe.
      const next = await unlessAborted(lines.next(), stop.signal);
      if (next.done === true) break;
      const { number, text } = next.value;
      const packet = packetOf(text, maxPacketBytes);
      if (packet === undefined) {
        damagedLetters++;
        continue;
      }
      if (typeof packet === "string") {
        await batch.store();
        throw new CommandError(`line ${number}: ${packet}. ${batch.remainWords()}`);
      }
      await batch.add({ ...packet, ...(expiry ? {} : { expiresAtMs: Infinity }), line: number });
    }
    await batch.store();
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    log.warn(`${await stopped}: stopped before the end. ${batch.stoppedWords()}`);
    return ExitCode.PACKETS_KEPT;
  } finally {
    if (damagedLetters > 0) {
      const letters = formatThings(damagedLetters, "damaged dead letter");
      log.warn(`left out ${letters}: the bytes are not those that were stored`);
    }
    await log.flushed();
  }
  await printOutcome(io, dryRun ? `every line is sound: ${batch.sumWords()}` : batch.words());
  return ExitCode.DONE;
}

async function open(path: string, options: ImportOptions): Promise<OutboundQueue> {
  try {
    return await openQueue(path, { ...KEEPS_DEAD_LETTERS, ...queueOptionsOf(options) });
  } catch (error) {
    throw asUsageError(error);
  }
}

interface Packet {
  readonly payload: Uint8Array;
  readonly expiresAtMs: number;
}

/** A packet, and the number of its line. */
interface NumberedPacket extends Packet {
  readonly line: number;
}

/** Packets that are stored together. */
class Batch {
  readonly #queue: OutboundQueue | undefined;
  readonly #stop: AbortSignal;
  readonly #warn: (words: string) => void;
  #packets: NumberedPacket[] = [];
  #bytes = 0;
  #storedPackets = 0;
  #storedBytes = 0;
  /** Smaller ones behind one for which there was no room. */
  #laterPackets = 0;
  #firstId: number | undefined;
  #lastId = 0;
  #lastLine = 0;

  /**
   * @param queue Where they go; `undefined`: nowhere.
   * @param stop Ends the wait for room.
   * @param warn Told when that takes long.
   */
  constructor(
    queue: OutboundQueue | undefined,
    stop: AbortSignal,
    warn: (words: string) => void,
  ) {
    this.#queue = queue;
    this.#stop = stop;
    this.#warn = warn;
  }

  async add(packet: NumberedPacket): Promise<void> {
    this.#packets.push(packet);
    this.#bytes += packet.payload.length;
    if (this.#packets.length >= BATCH_PACKETS || this.#bytes >= BATCH_BYTES) await this.store();
  }

  /** @throws {CommandError} The queue has refused some; says what was stored all the same. */
  async store(): Promise<void> {
    const groups = groupsOf(this.#packets);
    this.#packets = [];
    this.#bytes = 0;
    // All at once, so that they share a transaction: each may expire at another time.
    const storing = Promise.allSettled(groups.map((group) => this.#enqueue(group)));
    const cancelNotice = whenStoreIsSlow(systemClock, () => {
      this.#warn(`${SLOW_STORE}; waiting. Ctrl-C stops, and says what is stored`);
    });
    const results = await storing;
    cancelNotice();
    let error: unknown;
    for (const [i, result] of results.entries()) {
      if (result.status === "rejected") error ??= result.reason;
      else if (error === undefined) this.#stored(groups[i] ?? [], result.value);
      else this.#laterPackets += groups[i]?.length ?? 0;
    }
    if (this.#queue !== undefined && error === undefined) error = this.#queue.misplaced();
    if (error === undefined) return;
    throw new CommandError(`${explain(error)} ${this.remainWords()}`, { cause: error });
  }

  async #enqueue(group: readonly NumberedPacket[]): Promise<IdRange | undefined> {
    const expiresAtMs = group[0]?.expiresAtMs ?? Infinity;
    // What has expired meanwhile becomes a dead letter, and does not vanish.
    const ttlMs = expiresAtMs === Infinity
      ? undefined
      : Math.max(1, Math.round(expiresAtMs - systemClock.wallMs()));
    return await this.#queue?.enqueueMany(group.map(({ payload }) => payload), {
      ttlMs,
      signal: this.#stop,
    });
  }

  #stored(group: readonly NumberedPacket[], ids: IdRange | undefined): void {
    this.#storedPackets += group.length;
    for (const { payload } of group) this.#storedBytes += payload.length;
    if (ids === undefined) return;
    this.#firstId ??= ids.firstId;
    this.#lastId = ids.lastId;
    this.#lastLine = group.at(-1)?.line ?? this.#lastLine;
  }

  /** After a signal: what stays stored, and where to go on. */
  stoppedWords(): string {
    if (this.#firstId === undefined && this.#laterPackets === 0) return "Nothing was stored";
    const later = this.#laterPackets === 0
      ? ""
      : `, and ${formatPackets(this.#laterPackets)} later`;
    return `Stored, up to line ${this.#lastLine}: ${this.#idWords()}${later}. The rest begins with ` +
      `tail -n +${this.#lastLine + 1}`;
  }

  /** After a failure: what stays stored. */
  remainWords(): string {
    const later = this.#laterPackets === 0 ? "nothing" : formatPackets(this.#laterPackets);
    if (this.#firstId === undefined && this.#laterPackets === 0) return "Nothing was stored.";
    const before = this.#firstId === undefined ? "nothing" : this.#idWords();
    return `Stored before it: ${before}; ${later} after it.`;
  }

  /** `stored 12 packets, 3.4 KiB, ids 5 to 16`. */
  words(): string {
    return `stored ${this.#idWords()}`;
  }

  #idWords(): string {
    const ids = this.#firstId === undefined ? "" : `, ${formatIds(this.#firstId, this.#lastId)}`;
    return `${this.sumWords()}${ids}`;
  }

  /** `12 packets, 3.4 KiB`. */
  sumWords(): string {
    return `${formatPackets(this.#storedPackets)}, ${formatBytes(this.#storedBytes)}`;
  }
}

/** Those that follow each other and expire together. */
function groupsOf(packets: readonly NumberedPacket[]): NumberedPacket[][] {
  const groups: NumberedPacket[][] = [];
  for (const packet of packets) {
    const group = groups.at(-1);
    if (group?.[0]?.expiresAtMs === packet.expiresAtMs) group.push(packet);
    else groups.push([packet]);
  }
  return groups;
}

/**
 * The packet of a line, or what is wrong with it; `undefined`: a dead letter that is damaged, so
 * that nobody has stored what it holds, as with `requeue`.
 */
function packetOf(text: string | undefined, maxPacketBytes: number): Packet | string | undefined {
  if (text === undefined) return "it is longer than the line of the largest packet";
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return "it is no JSON";
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return "it is no JSON object";
  }
  if ("reason" in value && value.reason === "damaged") return undefined;
  if (!("payload" in value) || typeof value.payload !== "string") return "it has no payload";
  let payload: Uint8Array;
  try {
    payload = Uint8Array.fromBase64(value.payload);
  } catch {
    return "its payload is no base64";
  }
  if (payload.length === 0) return "its payload is empty";
  if (payload.length > maxPacketBytes) {
    return `its packet has ${payload.length} bytes, --max-packet-bytes is ${maxPacketBytes}`;
  }
  if ("bytes" in value && value.bytes !== payload.length) {
    return `its payload has ${payload.length} bytes, and should have ${String(value.bytes)}`;
  }
  let expiresAtMs = Infinity;
  if ("expiresAt" in value) {
    // Beyond the calendar export writes milliseconds since 1970.
    const { expiresAt } = value;
    expiresAtMs = typeof expiresAt === "string" ? Date.parse(expiresAt) : Number(expiresAt);
    if (typeof expiresAt !== "string" && !Number.isSafeInteger(expiresAt)) expiresAtMs = NaN;
    if (Number.isNaN(expiresAtMs)) return "its expiresAt is no time";
  }
  return { payload, expiresAtMs };
}

function openSource(file: string | undefined, io: Stdio): ByteSource & Disposable {
  // The end of stdin's process closes it.
  if (file === undefined) return { ...named(io.stdin, "stdin"), [Symbol.dispose]() {} };
  try {
    const opened = Deno.openSync(file, { read: true });
    return { ...named(opened, file), [Symbol.dispose]: () => opened.close() };
  } catch (error) {
    throw unreadable(error, file, file, `give it as stdin: sendq import < ${file}`);
  }
}

/** Lines that are not blank, by their number; one beyond `maxBytes` has no text, and is the last. */
async function* linesOf(
  source: ByteSource,
  maxBytes: number,
): AsyncGenerator<{ readonly number: number; readonly text: string | undefined }> {
  const decoder = new TextDecoder();
  let pieces: Uint8Array[] = [];
  let bytes = 0, number = 1;
  const line = () => {
    if (bytes > maxBytes) return { number, text: undefined };
    const whole = new Uint8Array(bytes);
    let at = 0;
    for (const piece of pieces) {
      whole.set(piece, at);
      at += piece.length;
    }
    pieces = [];
    bytes = 0;
    return { number: number++, text: decoder.decode(whole) };
  };
  for (;;) {
    const buffer = new Uint8Array(READ_BYTES);
    const length = await source.read(buffer);
    if (length === null) break;
    const chunk = buffer.subarray(0, length);
    let start = 0;
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, start)) {
      pieces.push(chunk.subarray(start, end));
      bytes += end - start;
      start = end + 1;
      const next = line();
      if (next.text?.trim() !== "") yield next;
    }
    pieces.push(chunk.subarray(start));
    bytes += chunk.length - start;
    if (bytes > maxBytes) break;
  }
  const last = line();
  if (last.text?.trim() !== "") yield last;
}

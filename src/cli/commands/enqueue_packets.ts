/** What `sendq enqueue` does once its arguments are read. It has nothing of commander. */

import { systemClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/logger.ts";
import { QUEUE_OPTIONS } from "../../base/option_table.ts";
import type { Clock } from "../../base/ports.ts";
import { within } from "../../base/waits.ts";
import { FramingError } from "../../framing/errors.ts";
import { framePacket } from "../../framing/frame_packet.ts";
import type { Framing } from "../../framing/framing.ts";
import { SLOW_STORE, whenStoreIsSlow } from "../../framing/input_pump.ts";
import { PacketSplitter } from "../../framing/splitter.ts";
import { checkPermissions } from "../../permissions/permissions.ts";
import { isQueueUrl } from "../../postgres/address.ts";
import { isSpoolAddress } from "../../spool/address.ts";
import type { IdRange } from "../../queue/options.ts";
import type { OutboundQueue } from "../../queue/queue.ts";
import { givenOf } from "../terminal/flags.ts";
import type { FramingOptions, QueueCommandOptions } from "../arguments/options.ts";
import {
  checkInPlace,
  KEEPS_DEAD_LETTERS,
  openQueue,
  queueNeeds,
  STORES,
} from "../arguments/queue_place.ts";
import type { StdinIntakeOptions } from "../session/stdin_intake.ts";
import { CommandError, ExitCode, UsageError } from "../terminal/exit_code.ts";
import { formatCount, formatIds, formatPackets } from "../terminal/figures.ts";
import { LogConsole, printLine, printOutcome, unsaid } from "../terminal/output.ts";
import { type Stdio, unreadable } from "../terminal/stdio.ts";

/** How long what was read may wait for room once the command is to stop. */
const STOP_STORE_MS = 5000;

export interface EnqueueCommandOptions extends QueueCommandOptions, Omit<FramingOptions, "input"> {
  readonly input?: Framing;
  readonly file?: readonly string[];
  readonly json?: boolean;
}

/**
 * Reads what a script says: the queue's file, packets, `--file` and `--json`.
 *
 * @returns What commander would make of them; `undefined`: that is for commander to say.
 */
export function plainArguments(
  args: readonly string[],
): { readonly texts: string[]; readonly options: EnqueueCommandOptions } | undefined {
  const texts: string[] = [];
  const file: string[] = [];
  let queue = "";
  let json = false;
  for (let i = 0; i < args.length; i++) {
    const arg = args[i] ?? "";
    if (arg === "-q" || arg === "--queue") queue = args[++i] ?? "";
    else if (arg === "--file") file.push(args[++i] ?? "");
    else if (arg === "--json") json = true;
    else if (arg.startsWith("-")) return undefined;
    else texts.push(arg);
  }
  // Perhaps a value was forgotten.
  if ([queue, ...file].some((value) => value === "" || value.startsWith("-"))) return undefined;
  if (isQueueUrl(queue) || isSpoolAddress(queue)) return undefined;
  return {
    texts,
    options: {
      ...{ queue, ...STORES, oversize: "fail" },
      ...(file.length === 0 ? {} : { file }),
      ...(json ? { json } : {}),
    },
  };
}

/**
 * Whether packets are given, so that stdin is not read. A `-` stands for it, as elsewhere.
 *
 * @throws {UsageError} There is a `-` among packets.
 */
export function givesPackets(
  texts: readonly string[],
  { file: files = [] }: Pick<EnqueueCommandOptions, "file">,
): boolean {
  const sources = texts.length + files.length;
  if (!texts.includes("-")) return sources > 0;
  if (sources === 1) return false;
  throw new UsageError("- is stdin, and stands alone; a packet of this text comes on stdin");
}

/**
 * Stores the packets.
 *
 * @param texts Packets; `-` alone: they come on stdin.
 */
export async function enqueue(
  texts: readonly string[],
  options: EnqueueCommandOptions,
  io: Stdio,
): Promise<ExitCode> {
  try {
    return await enqueueAll(texts, options, io);
  } catch (error) {
    // A path that is none, or more than a database takes at once.
    const { asUsageError } = await import("../arguments/options.ts");
    throw asUsageError(error);
  }
}

async function enqueueAll(
  texts: readonly string[],
  options: EnqueueCommandOptions,
  io: Stdio,
): Promise<ExitCode> {
  const { queue: path, input, output, file: files = [], json = false } = options;
  const { maxPacketBytes, maxBytes = QUEUE_OPTIONS.maxBytes.default, oversize = "fail" } = options;
  const given = givesPackets(texts, options);
  if (given && (input !== undefined || oversize !== "fail")) {
    const flag = input === undefined ? "--oversize" : "--input";
    throw new UsageError(`${flag} is about stdin, which is not read when packets are given`);
  }
  checkPermissions({ ...queueNeeds(path), files });
  const packets = !given ? [] : [
    ...texts.map((text, i) =>
      framed(`packet ${i + 1}`, new TextEncoder().encode(text), output ?? "lines")
    ),
    ...await Promise.all(
      files.map(async (file) =>
        framed(`--file ${file}`, await readFile(file, maxPacketBytes), output ?? "chunks")
      ),
    ),
  ];
  const splitter = new PacketSplitter({
    ...{ input: input ?? "lines", output: output ?? input ?? "lines" },
    ...{ maxPacketBytes, maxBytes, oversize },
  });
  const log = LogConsole.on(io, { format: "text", level: "info", live: false });

  await using queue = await open(path, options, log);
  const stored = new Stored(json, io);
  const store = async (packets: readonly Uint8Array[], signal?: AbortSignal) => {
    const ids = await queue.enqueueMany(packets, { signal });
    checkInPlace(queue);
    await stored.add(ids, packets);
  };
  if (given) {
    const cancelNotice = whenStoreIsSlow(systemClock, () => {
      const what = packets.length === 1 ? "the packet" : "the packets";
      log.warn(`${SLOW_STORE}; waiting with ${what}. Ctrl-C gives up`);
    });
    try {
      await store(packets);
    } finally {
      cancelNotice();
      await log.flushed();
    }
    await stored.end();
    return ExitCode.DONE;
  }
  return await storeInput(
    { splitter, store, limits: queue.limits, follow: false, log, io },
    stored,
  );
}

/** Until the input ends, or somebody stops it. */
async function storeInput(
  options: StdinIntakeOptions & { readonly log: LogConsole },
  stored: Stored,
): Promise<ExitCode> {
  const { log } = options;
  // A script with a packet in its arguments does not pay for them.
  const [{ SizeLimit, StopSignals }, { StdinIntake }, { tellLost }] = await Promise.all([
    import("../session/signals.ts"),
    import("../session/stdin_intake.ts"),
    import("../session/plan.ts"),
  ]);
  using _limit = new SizeLimit();
  using signals = new StopSignals();
  const intake = new StdinIntake(options);
  const stopped = signals.first.then(async (signal) => {
    log.warn(`${signal}: stopping before the end of stdin; once more to stop at once`);
    await Promise.race([within(STOP_STORE_MS, intake.stop()), signals.second]);
    return true;
  });
  let isStopped = false;
  let isLost = false;
  try {
    isStopped = await Promise.race([intake.run().then(() => false), stopped]);
  } finally {
    isLost = tellLost(log, intake);
    await log.flushed();
    await stored.end();
  }
  if (isLost) return ExitCode.FAILED;
  return isStopped ? ExitCode.PACKETS_KEPT : ExitCode.DONE;
}

/**
 * Nothing runs beside it that a commit could hold up, and the runtime's `setImmediate`
 * takes 10 ms of CPU to load.
 */
const clock: Clock = { ...systemClock, defer: queueMicrotask };

async function open(
  path: string,
  options: EnqueueCommandOptions,
  log: LogConsole,
): Promise<OutboundQueue> {
  // A script is told only of what is not as it should be.
  const warn = (words: string) => log.warn(words);
  const logger = { ...silentLogger, warn, error: warn };
  const given = givenOf(QUEUE_OPTIONS, options);
  return await openQueue(path, { ...KEEPS_DEAD_LETTERS, ...given, clock }, logger);
}

/**
 * Frames a packet that was given.
 *
 * @param what Which one.
 * @throws {CommandError} The framing cannot carry it.
 */
function framed(what: string, payload: Uint8Array, framing: Framing): Uint8Array {
  try {
    return framePacket(payload, framing);
  } catch (error) {
    if (!(error instanceof FramingError)) throw error;
    // There is no input in which it could begin.
    const words = error.message.replace(/^Input byte 0: /, "");
    throw new CommandError(`${what}: ${words} Nothing was stored`);
  }
}

/** No more of it than a packet may have: what is read may have no end. */
async function readFile(path: string, maxBytes: number): Promise<Uint8Array> {
  let buffer: Uint8Array;
  let bytes = 0;
  try {
    using file = await Deno.open(path);
    const { size } = await file.stat();
    buffer = new Uint8Array(Math.min(size, maxBytes) + 1);
    for (;;) {
      const length = await file.read(buffer.subarray(bytes));
      if (length === null) break;
      bytes += length;
      if (bytes > maxBytes) break;
      if (bytes < buffer.length) continue;
      const larger = new Uint8Array(Math.min(2 * bytes, maxBytes) + 1);
      larger.set(buffer);
      buffer = larger;
    }
  } catch (error) {
    const instead = "without --file packets come from stdin";
    throw unreadable(error, `--file ${path}`, `--file ${path}`, instead);
  }
  if (bytes <= maxBytes) return buffer.subarray(0, bytes);
  throw new CommandError(
    `--file ${path} has more bytes than --max-packet-bytes, ${formatCount(maxBytes)}. ` +
      "Nothing was stored",
  );
}

/** Says what was stored, once it is. */
class Stored {
  readonly #json: boolean;
  readonly #io: Stdio;
  /** What is stored stays so, whether or not it can be said. */
  #failure: { readonly error: unknown } | undefined;
  #packets = 0;
  #first: number | undefined;
  #last = 0;

  constructor(json: boolean, io: Stdio) {
    this.#json = json;
    this.#io = io;
  }

  async add({ firstId, lastId }: IdRange, packets: readonly Uint8Array[]): Promise<void> {
    this.#packets += packets.length;
    this.#first ??= firstId;
    this.#last = lastId;
    if (!this.#json || this.#failure !== undefined) return;
    const lines = packets.map((packet, i) =>
      JSON.stringify({ id: firstId + i, bytes: packet.length })
    );
    try {
      await printLine(this.#io, lines.join("\n"));
    } catch (error) {
      this.#failure = { error };
    }
  }

  /** @throws {CommandError} It could not all be said. */
  async end(): Promise<void> {
    const ids = this.#first === undefined ? "" : `, ${formatIds(this.#first, this.#last)}`;
    const words = `stored ${formatPackets(this.#packets)}${ids}`;
    if (this.#failure !== undefined) throw unsaid(this.#failure.error, words);
    if (!this.#json) await printOutcome(this.#io, words);
  }
}

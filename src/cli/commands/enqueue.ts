/**
 * `sendq enqueue`: packets from a script into a queue, whether or not a sender
 * runs on it.
 *
 * @module
 */

import { Command } from "commander";
import { systemClock } from "../../base/clock.ts";
import { framePacket } from "../../framing/frame_packet.ts";
import type { Framing } from "../../framing/framing.ts";
import { batchLimitsFor, InputPump } from "../../framing/input_pump.ts";
import type { IdRange } from "../../queue/options.ts";
import type { OutboundQueue } from "../../queue/queue.ts";
import {
  addOversizeOption,
  addQueueOption,
  addQueueOptions,
  asUsageError,
  framingHelp,
  type FramingOptions,
  OptionAdder,
  type QueueCommandOptions,
  queueOptionsOf,
  splitterFor,
} from "../arguments/options.ts";
import { checkPermissions } from "../../permissions/permissions.ts";
import { KEEPS_DEAD_LETTERS, openQueue, queueNeeds } from "../arguments/queue_place.ts";
import { formatPackets } from "../arguments/values.ts";
import { EXIT_CODE_HELP, ExitCode, UsageError } from "../terminal/exit_code.ts";
import { inFlags } from "../terminal/flags.ts";
import { colorsWelcome, LogConsole, printLine } from "../terminal/output.ts";
import type { Stdio } from "../terminal/stdio.ts";
import { checkInPlace } from "./queue_view.ts";

/** After this, who waits for room is told so. */
const SLOW_STORE_MS = 2000;

const HELP = `
Packets come from the arguments, from --file, or else from stdin. Each is on disk
when the command ends; the sender on this queue, in another process, is woken at
once. Without one they wait for it. A full queue makes the command wait, unless
--overflow says otherwise.

Examples:
  sendq enqueue -q outbox.db "temperature 21.5"
  sendq enqueue -q outbox.db --file one.bin --file two.bin
  producer | sendq enqueue -q outbox.db --json

Permissions:
  deno run --allow-read=outbox.db,outbox.db.lock \\
    --allow-write=outbox.db,outbox.db.lock src/cli/main.ts enqueue -q outbox.db ...
and --allow-read for each --file.

${framingHelp()}

${EXIT_CODE_HELP}
`;

/** The options of `enqueue`, parsed. */
interface EnqueueCommandOptions extends QueueCommandOptions, Omit<FramingOptions, "input"> {
  readonly input?: Framing;
  readonly file?: readonly string[];
  readonly json?: boolean;
}

/**
 * Makes the command.
 *
 * @param finish Told the exit code.
 * @param io Where it reads and prints.
 */
export function enqueueCommand(finish: (code: ExitCode) => void, io: Stdio): Command {
  const command = new Command("enqueue")
    .summary("put packets into a queue for its sender")
    .description("Put packets into a queue, while a sender runs on it elsewhere or later.")
    .argument("[packet...]", "packets as text");
  const options = new OptionAdder(command).group("Packets");
  addQueueOption(options);
  options
    .value(
      "--file <path>",
      "a file that is one packet; may be given several times",
      (text, earlier: readonly string[] = []) => [...earlier, text],
    )
    .framing("-i, --input <framing>", "packets on stdin (default: lines)")
    .framing(
      "-o, --output <framing>",
      "packets on the wire (default: arguments as lines, files as they are, stdin as it came)",
    )
    .flag("--json", "print an object with its id for each packet");
  addOversizeOption(options);
  addQueueOptions(options, { makesDeadLetters: false });
  return command
    .addHelpText("after", HELP)
    .action(async (texts: string[], options: EnqueueCommandOptions) => {
      // A route file says how packets come on stdin, whether it is read or not.
      const isOfFile = command.getOptionValueSource("input") === "config";
      const { input: _, ...others } = options;
      const isGiven = texts.length + (options.file?.length ?? 0) > 0;
      finish(await enqueue(texts, isOfFile && isGiven ? others : options, io));
    });
}

async function enqueue(
  texts: readonly string[],
  options: EnqueueCommandOptions,
  io: Stdio,
): Promise<ExitCode> {
  const { queue: path, input, output, file: files = [], json = false } = options;
  const given = texts.length + files.length > 0;
  if (given && input !== undefined) {
    throw new UsageError("--input is about stdin, which is not read when packets are given");
  }
  checkPermissions({ ...queueNeeds(path), files });
  const packets = [
    ...texts.map((text) => framePacket(new TextEncoder().encode(text), output ?? "lines")),
    ...await Promise.all(
      files.map(async (file) => framePacket(await readFile(file), output ?? "chunks")),
    ),
  ];
  const splitter = splitterFor({ ...options, input: input ?? "lines" });
  const log = new LogConsole({
    format: "text",
    level: "info",
    live: false,
    colors: colorsWelcome(io.stderr),
  }, io.stderr);

  await using queue = await open(path, options, log);
  const stored = new Stored(json, io);
  const store = async (packets: readonly Uint8Array[], signal?: AbortSignal) => {
    const ids = await queue.enqueueMany(packets, { signal });
    checkInPlace(queue);
    await stored.add(ids, packets);
  };
  if (given) {
    const cancelNotice = systemClock.setTimer(SLOW_STORE_MS, () => {
      const what = packets.length === 1 ? "the packet" : "the packets";
      log.warn(`the queue takes no more packets for now; waiting with ${what}. Ctrl-C gives up`);
    });
    try {
      await store(packets);
    } finally {
      cancelNotice();
      await log.flushed();
    }
  } else {
    const pump = new InputPump({
      source: io.stdin,
      splitter,
      store,
      ...batchLimitsFor(queue.limits),
      clock: systemClock,
      onTrouble: (words) => log.warn(words),
      onDoubt: (words) => log.warn(inFlags(words)),
    });
    try {
      await pump.run();
    } finally {
      await stored.end();
      const { unstoredPackets } = pump;
      if (unstoredPackets > 0) {
        log.error(`${formatPackets(unstoredPackets)} read from the pipe could not be stored`);
      }
      await log.flushed();
    }
    return ExitCode.DONE;
  }
  await stored.end();
  return ExitCode.DONE;
}

async function open(
  path: string,
  options: EnqueueCommandOptions,
  log: LogConsole,
): Promise<OutboundQueue> {
  // A script is told only of what is not as it should be.
  const warn = (words: string) => log.warn(words);
  const logger = { debug() {}, info() {}, warn, error: warn };
  try {
    return await openQueue(path, { ...KEEPS_DEAD_LETTERS, ...queueOptionsOf(options) }, logger);
  } catch (error) {
    throw asUsageError(error);
  }
}

async function readFile(path: string): Promise<Uint8Array> {
  try {
    return await Deno.readFile(path);
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    throw new UsageError(`--file ${path} cannot be read: ${error.message}`);
  }
}

/** Says what was stored, once it is. */
class Stored {
  readonly #json: boolean;
  readonly #io: Stdio;
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
    if (!this.#json) return;
    const lines = packets.map((packet, i) =>
      JSON.stringify({ id: firstId + i, bytes: packet.length })
    );
    await printLine(this.#io, lines.join("\n"));
  }

  async end(): Promise<void> {
    if (this.#json) return;
    const ids = this.#first === undefined
      ? ""
      : this.#first === this.#last
      ? `, id ${this.#first}`
      : `, ids ${this.#first} to ${this.#last}`;
    await printLine(this.#io, `stored ${formatPackets(this.#packets)}${ids}`);
  }
}

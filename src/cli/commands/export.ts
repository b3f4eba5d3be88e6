/** `sendq export`: packets out of a queue, which keeps them. */

import { Command } from "commander";
import { messageOf, QueueFileError } from "../../base/errors.ts";
import { writeAll } from "../../base/write_all.ts";
import type { InspectedDeadLetter, InspectedPacket } from "../../queue/inspect/inspection.ts";
import { isFileOfQueue } from "../../queue/sqlite/copy.ts";
import { identityOfLinkAt, isSameFile } from "../../queue/sqlite/file_identity.ts";
import { addQueueOption, QUEUE_THERE } from "../arguments/options.ts";
import { OptionAdder } from "../arguments/option_adder.ts";
import { fileOf } from "../arguments/queue_place.ts";
import { checkPermissions } from "../../permissions/permissions.ts";
import { StopSignals } from "../session/signals.ts";
import { CommandError, EXIT_CODE_HELP, ExitCode, UsageError } from "../terminal/exit_code.ts";
import { formatBytes, formatPackets } from "../terminal/figures.ts";
import { Printer, printOutcome } from "../terminal/output.ts";
import { inWords, type Stdio, STDOUT_NAMES } from "../terminal/stdio.ts";
import {
  addRangeOptions,
  deadLetterFields,
  LOOK_PERMISSIONS,
  lookNeeds,
  openForLooking,
  packetFields,
  POSTGRES_PERMISSIONS,
  printWithPayload,
  rangeOf,
  type RangeOptions,
  requireQueue,
} from "./queue_view.ts";
import { beginFile, finishFile, isThere, unfinishedPathOf, wouldBeOfQueue } from "./unfinished.ts";

const HELP = `
The packets stay in the queue: see sendq remove. As JSON lines, each has its id,
times, size and state, and its payload as base64; sendq import reads them. As
raw bytes they follow each other as on the wire. A sender may run meanwhile:
what it delivers before its turn is not among them.

Examples:
  sendq export -q outbox.db > packets.jsonl
  sendq export -q outbox.db --dead -o dead.jsonl
  sendq export -q outbox.db --format raw | nc legacy 4000

Permissions:
  deno run ${LOOK_PERMISSIONS} src/cli/main.ts export -q outbox.db
${POSTGRES_PERMISSIONS}
And for -o FILE --allow-read and --allow-write for it and for FILE.unfinished:
that is what it is called until it is whole.

${EXIT_CODE_HELP}
`;

interface ExportOptions extends RangeOptions {
  readonly queue: string;
  readonly format: "jsonl" | "raw";
  readonly output?: string;
  readonly force?: boolean;
}

export function exportCommand(finish: (code: ExitCode) => void, io: Stdio): Command {
  const command = new Command("export")
    .summary("write packets to a file or a pipe; the queue keeps them")
    .description("Write packets of a queue to a file or a pipe; the queue keeps them.");
  const options = new OptionAdder(command).group("Packets");
  addQueueOption(options, QUEUE_THERE);
  addRangeOptions(options);
  options
    .group("Output")
    .choice("--format <format>", "JSON lines, or the bytes as on the wire", [
      "jsonl",
      "raw",
    ], "jsonl")
    .flag("-o, --output <file>", "a new file, readable by you alone (default, and -: stdout)")
    .flag("--force", "write over a file that is there");
  return command
    .addHelpText("after", HELP)
    .action(async (options: ExportOptions) => finish(await exportPackets(options, io)));
}

async function exportPackets(options: ExportOptions, io: Stdio): Promise<ExitCode> {
  const { queue: path, dead = false } = options;
  const output = STDOUT_NAMES.has(options.output ?? "-") ? undefined : options.output;
  const range = { ...rangeOf(options), payloadBytes: Infinity };
  if (output !== undefined) {
    const { files = [], ...needs } = lookNeeds(path);
    const made = [output, unfinishedPathOf(output)];
    checkPermissions({ ...needs, files: [...files, ...made], outputs: made });
    requireQueue(path);
    const file = fileOf(path);
    if (file !== undefined && made.some((path) => isOfQueue(path, file))) {
      throw new UsageError("--output must not be the queue itself, nor a file of it");
    }
  } else refuseOwnFile(path, io);
  using inspector = await openForLooking(path);
  using file = output === undefined ? undefined : new OutputFile(output, options.force ?? false);
  using stop = file?.isFile ? new StopSignals() : undefined;
  let signal: Deno.Signal | undefined;
  void stop?.first.then((first) => signal = first);
  const out = file === undefined ? Printer.on(io) : new Printer((bytes) => file.write(bytes));
  const items: AsyncIterable<InspectedPacket | InspectedDeadLetter> = dead
    ? inspector.deadLetters(range)
    : inspector.packets(range);
  let packets = 0, bytes = 0;
  let damage: unknown;
  try {
    for await (const item of items) {
      packets++;
      bytes += item.bytes;
      const isRead = options.format === "raw"
        ? await out.bytes(item.payload)
        : await printWithPayload(out, fieldsOf(item), item.payload);
      if (!isRead) return ExitCode.DONE;
      if (signal !== undefined) {
        throw new CommandError(`${signal}: stopped at packet ${item.id}. ${output} was not made`);
      }
    }
  } catch (error) {
    // What could be read is worth having.
    if (!(error instanceof QueueFileError)) throw error;
    damage = error;
  }
  const isRead = await out.flush();
  if (file !== undefined && isRead) {
    file.keep();
    await printOutcome(
      io,
      `exported ${formatPackets(packets)}, ${formatBytes(bytes)} to ${file.path}`,
    );
  }
  if (damage instanceof QueueFileError) {
    throw new CommandError(
      `only the first ${formatPackets(packets)} could be read: ${damage.message}`,
    );
  }
  return ExitCode.DONE;
}

function fieldsOf(item: InspectedPacket | InspectedDeadLetter): Record<string, unknown> {
  return "state" in item ? packetFields(item) : deadLetterFields(item);
}

/**
 * What is appended to a queue is nothing to it, and `> outbox.db` has emptied it already.
 *
 * @throws {UsageError} stdout is a file of the queue.
 */
function refuseOwnFile(path: string, { stdout }: Stdio): void {
  const { files = [] } = lookNeeds(path);
  const file = fileOf(path);
  if (file === undefined || stdout !== Deno.stdout || stdout.isTerminal()) return;
  checkPermissions({ files });
  requireQueue(path);
  // Loaded only here: the runtime takes 50 ms of CPU for it. It alone tells what stdout is.
  const { dev, ino } = process.getBuiltinModule("node:fs").fstatSync(1);
  if (!isFileOfQueue({ dev, ino }, file)) return;
  throw new UsageError("stdout is the queue itself, or a file of it: export to another file");
}

/** @throws {Deno.errors.NotCapable} It lies where Deno lets nobody look. */
function isOfQueue(output: string, queue: string): boolean {
  try {
    return wouldBeOfQueue(output, queue);
  } catch (error) {
    throw inWords(error, output, "leave --output out, and redirect stdout: > FILE");
  }
}

/** Whether there is a file, or will be one: a link may lead to nothing yet. */
function leadsToFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return true;
    throw error;
  }
}

/** What is there and is no file, a pipe or a device; or a new file, under the name it has first. */
function openOutput(path: string, force: boolean): { file: Deno.FsFile; isFile: boolean } {
  const how = { write: true, mode: 0o600 };
  if (isThere(path)) {
    const isFile = leadsToFile(path);
    if (isFile && !force) throw new CommandError(`${path} exists; --force writes over it`);
    // A link stays one.
    if (!isFile || Deno.lstatSync(path).isSymlink) {
      const file = Deno.openSync(path, { ...how, create: isFile, truncate: isFile });
      return { file, isFile: false };
    }
  }
  const unfinished = unfinishedPathOf(path);
  // What an interrupted run has left is no more than what is about to be written over.
  if (force && isThere(unfinished)) Deno.removeSync(unfinished);
  else if (!force) beginFile(path);
  return { file: Deno.openSync(unfinished, { ...how, createNew: true }), isFile: true };
}

/**
 * A file that is there once it is whole, and on the disk; or a pipe or a device, which is written
 * as it is and never taken away.
 */
class OutputFile implements Disposable {
  readonly path: string;
  readonly isFile: boolean;
  readonly #file: Deno.FsFile;
  readonly #force: boolean;
  #kept = false;

  constructor(path: string, force: boolean) {
    this.path = path;
    this.#force = force;
    try {
      ({ file: this.#file, isFile: this.isFile } = openOutput(path, force));
    } catch (error) {
      throw this.#failure(error);
    }
  }

  async write(bytes: Uint8Array): Promise<boolean> {
    try {
      await writeAll(this.#file, bytes);
      return true;
    } catch (error) {
      // A pipe's reader may have had enough, as that of stdout.
      if (error instanceof Deno.errors.BrokenPipe) return false;
      throw this.#failure(error);
    }
  }

  keep(): void {
    try {
      // Also what a link leads to.
      if (this.#file.statSync().isFile) this.#file.syncSync();
      if (!this.isFile) return;
      this.#refuseAnothers();
      if (this.#force) Deno.renameSync(unfinishedPathOf(this.path), this.path);
    } catch (error) {
      throw this.#failure(error);
    }
    // It is whole, and stays whether or not it gets its name.
    this.#kept = true;
    if (!this.#force) finishFile(this.path);
  }

  /** With `--force` another run begins anew, whether or not this one is still at work. */
  #refuseAnothers(): void {
    if (this.#isOwn()) return;
    throw new CommandError(
      `${this.path} was not made: ${unfinishedPathOf(this.path)} was removed or replaced ` +
        "meanwhile, perhaps by another run with --force",
    );
  }

  #isOwn(): boolean {
    return isSameFile(this.#file.statSync(), identityOfLinkAt(unfinishedPathOf(this.path)));
  }

  #failure(error: unknown): CommandError {
    if (error instanceof CommandError) return error;
    return new CommandError(`${this.path} cannot be written: ${messageOf(error)}`);
  }

  [Symbol.dispose](): void {
    try {
      if (this.isFile && !this.#kept && this.#isOwn()) {
        Deno.removeSync(unfinishedPathOf(this.path));
      }
    } catch {
      // What has failed before says more than that the file cannot be taken away.
    } finally {
      this.#file.close();
    }
  }
}

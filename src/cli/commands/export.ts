/**
 * `sendq export`: packets out of a queue, which keeps them.
 *
 * @module
 */

import { Command } from "commander";
import { QueueFileError } from "../../base/errors.ts";
import { writeAll } from "../../base/write_all.ts";
import type { InspectedDeadLetter, InspectedPacket } from "../../queue/inspect/inspection.ts";
import { belongsToQueue } from "../../queue/sqlite/file_identity.ts";
import { addQueueOption, OptionAdder, QUEUE_THERE } from "../arguments/options.ts";
import { fileOf } from "../arguments/queue_place.ts";
import { checkPermissions } from "../../permissions/permissions.ts";
import { CommandError, EXIT_CODE_HELP, ExitCode, UsageError } from "../terminal/exit_code.ts";
import { formatBytes, formatPackets } from "../terminal/figures.ts";
import { Printer, printLine } from "../terminal/output.ts";
import type { Stdio } from "../terminal/stdio.ts";
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

const HELP = `
The packets stay in the queue: see sendq remove. As JSON lines, each has its id,
times, size and state, and its payload as base64; sendq import reads them. As raw
bytes they follow each other as on the wire. A sender may run meanwhile: what it
delivers before its turn is not among them.

Examples:
  sendq export -q outbox.db > packets.jsonl
  sendq export -q outbox.db --dead -o dead.jsonl
  sendq export -q outbox.db --format raw | nc legacy 4000

Permissions:
  deno run ${LOOK_PERMISSIONS} src/cli/main.ts export -q outbox.db
${POSTGRES_PERMISSIONS}
And --allow-write=FILE for -o FILE, with --force --allow-read=FILE too.

${EXIT_CODE_HELP}
`;

interface ExportOptions extends RangeOptions {
  readonly queue: string;
  readonly format: "jsonl" | "raw";
  readonly output?: string;
  readonly force?: boolean;
}

/**
 * Makes the command.
 *
 * @param finish Told the exit code.
 * @param io Where it reads and prints.
 */
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
    .flag("-o, --output <file>", "a new file, readable by you alone (default: stdout)")
    .flag("--force", "write over a file that is there");
  return command
    .addHelpText("after", HELP)
    .action(async (options: ExportOptions) => finish(await exportPackets(options, io)));
}

async function exportPackets(options: ExportOptions, io: Stdio): Promise<ExitCode> {
  const { queue: path, dead = false, output } = options;
  const range = { ...rangeOf(options), payloadBytes: Infinity };
  if (output !== undefined) {
    const { files = [], ...needs } = lookNeeds(path);
    checkPermissions({
      ...needs,
      files: options.force ? [...files, output] : files,
      outputs: [output],
    });
    requireQueue(path);
    const file = fileOf(path);
    if (file !== undefined && belongsToQueue(output, file)) {
      throw new UsageError("--output must not be the queue itself, nor a file of it");
    }
  }
  using inspector = await openForLooking(path);
  using file = output === undefined ? undefined : new OutputFile(output, options.force ?? false);
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
    }
  } catch (error) {
    // What could be read is worth having.
    if (!(error instanceof QueueFileError)) throw error;
    damage = error;
  }
  await out.flush();
  if (file !== undefined) {
    file.keep();
    await printLine(
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

/** A file that is there once it is whole, and on the disk. */
class OutputFile implements Disposable {
  readonly path: string;
  readonly #file: Deno.FsFile;
  #kept = false;

  constructor(path: string, force: boolean) {
    this.path = path;
    try {
      this.#file = Deno.openSync(path, {
        write: true,
        mode: 0o600,
        ...(force ? { create: true, truncate: true } : { createNew: true }),
      });
    } catch (error) {
      if (error instanceof Deno.errors.AlreadyExists) {
        throw new CommandError(`${path} exists; --force writes over it`);
      }
      if (!(error instanceof Error)) throw error;
      throw new CommandError(`${path} cannot be written: ${error.message}`);
    }
  }

  async write(bytes: Uint8Array): Promise<boolean> {
    try {
      await writeAll(this.#file, bytes);
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      throw new CommandError(`${this.path} cannot be written: ${error.message}`);
    }
    return true;
  }

  keep(): void {
    this.#file.syncSync();
    this.#kept = true;
  }

  [Symbol.dispose](): void {
    this.#file.close();
    if (!this.#kept) Deno.removeSync(this.path);
  }
}

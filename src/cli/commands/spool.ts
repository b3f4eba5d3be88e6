/** `sendq spool`: the queues of a spool. */

import { Command } from "commander";
import { checkPermissions } from "../../permissions/permissions.ts";
import type { SpooledQueue } from "../../spool/inspector.ts";
import { OptionAdder } from "../arguments/option_adder.ts";
import { CommandError, EXIT_CODE_HELP, ExitCode, UsageError } from "../terminal/exit_code.ts";
import { formatBytes, formatCount } from "../terminal/figures.ts";
import { Printer } from "../terminal/output.ts";
import type { Stdio } from "../terminal/stdio.ts";
import { formatSpoolAddress, isSpoolAddress } from "../../spool/address.ts";
import { requireQueue } from "./queue_view.ts";

const HELP = `
A spool is one file with many queues, for a process that sends to many servers:
they share a sync of the disk, a lock and a log. Where a command takes --queue,
spool:FILE#NAME is one of them; it is made, as a file is, by whoever sends or
enqueues first:

  sendq enqueue -q spool:spool.db#plc-17 hello
  sendq send tcp://plc-17:4000 -q spool:spool.db#plc-17

One process at a time sends from a spool: put its routes into one file (sendq
run).

Examples:
  Where packets wait, the most first:
    sendq spool spool.db --sort packets

  Each queue's name, for a script:
    sendq spool spool.db --json | jq -r .name

Permissions:
  deno run --allow-read=spool.db src/cli/main.ts spool spool.db

${EXIT_CODE_HELP}
`;

const SORTS = ["name", "packets", "dead"] as const;

interface SpoolOptions {
  readonly sort: typeof SORTS[number];
  readonly json?: boolean;
}

export function spoolCommand(finish: (code: ExitCode) => void, io: Stdio): Command {
  const command = new Command("spool")
    .summary("list the queues of a spool")
    .description("List the queues of a spool, a file that has many of them.")
    .argument("<file>", "the spool");
  new OptionAdder(command)
    .group("Output")
    .choice("--sort <by>", "by name, or the most packets or dead letters first", SORTS, "name")
    .flag("--json", "print an object for each, one a line");
  return command
    .addHelpText("after", HELP)
    .action(async (file: string, options: SpoolOptions) => finish(await list(file, options, io)));
}

async function list(file: string, { sort, json }: SpoolOptions, io: Stdio): Promise<ExitCode> {
  if (isSpoolAddress(file)) throw new UsageError("give the spool's file alone, as a path");
  checkPermissions({ files: [file] });
  requireQueue(file);
  const { spooledQueues } = await import("../../spool/inspector.ts");
  const queues = (await spooledQueues(file)).toSorted(ORDERS[sort]);
  const out = Printer.on(io);
  const damaged = queues.filter(({ damage }) => damage !== undefined);
  const rows = queues.filter(({ damage }) => damage === undefined).map((queue) => [
    queue.name,
    formatCount(queue.packets),
    formatBytes(queue.bytes),
    formatCount(queue.deadPackets),
    formatCount(queue.lastId),
  ]);
  if (json) {
    for (const queue of queues) {
      const address = formatSpoolAddress({ file, name: queue.name });
      if (!await out.line(JSON.stringify({ ...queue, queue: address }))) break;
    }
  } else {
    const broken = damaged.map(({ name, damage }) => `${name}  damaged: ${damage}`);
    for (const line of [...inColumns([HEAD, ...rows]), ...broken]) {
      if (!await out.line(line)) break;
    }
  }
  await out.flush();
  const [first] = damaged;
  if (first !== undefined) {
    const address = formatSpoolAddress({ file, name: first.name });
    throw new CommandError(
      `${damaged.length} of its queues ${damaged.length === 1 ? "is" : "are"} damaged: ` +
        `sendq check ${file} says more, sendq repair ${address} NEW.db saves what can be read`,
    );
  }
  return ExitCode.DONE;
}

const HEAD = ["queue", "packets", "bytes", "dead", "stored ever"];

const ORDERS: {
  readonly [by in SpoolOptions["sort"]]: (a: SpooledQueue, b: SpooledQueue) => number;
} = {
  name: () => 0, // They come in that order.
  packets: (a, b) => b.packets - a.packets,
  dead: (a, b) => b.deadPackets - a.deadPackets,
};

/** The first to the left, numbers to the right. */
function inColumns(rows: readonly (readonly string[])[]): string[] {
  const widths = HEAD.map((_, i) => Math.max(...rows.map((row) => [...row[i] ?? ""].length)));
  return rows.map((row) =>
    row.map((cell, i) => i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))
      .join("  ").trimEnd()
  );
}

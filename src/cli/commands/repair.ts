/** `sendq repair`: what can be read of a damaged queue, into a new file. */

import { Command } from "commander";
import { QueueInspector } from "../../queue/inspect/inspector.ts";
import { readSenderNotice } from "../../queue/lock_file.ts";
import type { IdRange } from "../../queue/options.ts";
import { repairQueue, type RepairReport } from "../../queue/repair/repair.ts";
import { realPathOf } from "../../queue/sqlite/file_identity.ts";
import { OptionAdder } from "../arguments/option_adder.ts";
import { isSpoolAddress, parseSpoolAddress } from "../../spool/address.ts";
import { requireFile } from "../arguments/queue_place.ts";
import { checkPermissions } from "../../permissions/permissions.ts";
import { CommandError, EXIT_CODE_HELP, ExitCode, UsageError } from "../terminal/exit_code.ts";
import { formatBytes, formatIds, formatPackets, formatThings } from "../terminal/figures.ts";
import { printOutcome } from "../terminal/output.ts";
import type { Stdio } from "../terminal/stdio.ts";
import { requireQueue } from "./queue_view.ts";
import { beginCopy, finishFile, unfinishedPathOf, wouldBeOfQueue } from "./unfinished.ts";

const HELP = `
The old file is only read, together with its -wal file, where it has one: keep
the two together when you copy them. Stop every program that uses it first.
Packets keep their ids, and dead letters and counts come along. Around a damaged
page everything is saved that is whole. Until the new file is, it is called
saved.db.unfinished: one that was interrupted can be removed.

Exit code 0: all of it was saved. 1: something was lost; the lines say how much,
and among which ids.

Example, and then the new file in the old one's place:
  sendq repair outbox.db saved.db
  mkdir damaged && mv outbox.db* damaged/ && mv saved.db outbox.db

Permissions:
  deno run \\
    --allow-read=outbox.db,outbox.db-wal,outbox.db.lock \\
    --allow-read=saved.db,saved.db-wal,saved.db.unfinished \\
    --allow-write=saved.db,saved.db.unfinished \\
    src/cli/main.ts repair outbox.db saved.db

${EXIT_CODE_HELP}
`;

const INSTEAD = "A damaged database is replaced: fail over to a standby, or restore a backup. " +
  "sendq check says what is wrong, sendq export saves the packets before the damage";

export function repairCommand(finish: (code: ExitCode) => void, io: Stdio): Command {
  const command = new Command("repair")
    .summary("save what can be read of a damaged queue into a new file")
    .description("Save what can be read of a damaged queue into a new file.")
    .argument("<from>", "the damaged queue's file")
    .argument("<to>", "the new file, which must not be there yet");
  new OptionAdder(command).group("Output")
    .flag("--json", "print an object");
  return command
    .addHelpText("after", HELP)
    .action(async (from: string, to: string, options: { readonly json?: boolean }) =>
      finish(await repair(from, to, options.json ?? false, io))
    );
}

/** One queue of a spool, into a file of its own. */
async function repairInSpool(address: string, to: string): Promise<RepairReport> {
  const { repairFromSpool } = await import("../../spool/whole_file.ts");
  const { file, name } = parseSpoolAddress(address);
  return repairFromSpool(file, name, to);
}

async function problemsOf(path: string) {
  using inspector = await QueueInspector.open(path);
  return await inspector.check();
}

async function repair(from: string, to: string, json: boolean, io: Stdio): Promise<ExitCode> {
  const file = requireFile(from, INSTEAD);
  const made = [to, unfinishedPathOf(to)];
  const real = realPathOf(file);
  const files = [file, `${real}-wal`, `${real}.lock`, `${to}-wal`, ...made];
  checkPermissions({ files, outputs: made });
  requireQueue(from);
  if (wouldBeOfQueue(to, file)) {
    throw new UsageError("the new file must not be the queue itself, nor a file of it");
  }
  const sender = await readSenderNotice(file);
  if (sender !== undefined) {
    throw new CommandError(`a sender runs on ${file} (process ${sender.pid}): stop it first`);
  }
  const unfinished = beginCopy(to);
  const report = isSpoolAddress(from)
    ? await repairInSpool(from, unfinished)
    : repairQueue(from, unfinished);
  const problems = await problemsOf(unfinished);
  if (problems.length > 0) {
    throw new CommandError(
      `the new file ${unfinished} is not sound: ${problems.map(({ words }) => words).join("; ")}`,
    );
  }
  finishFile(to);
  const { lostPackets, lostIds, lostDeadPackets, lostDeadIds, notes } = report;
  const whole = lostPackets === 0 && lostDeadPackets === 0 &&
    lostIds.length + lostDeadIds.length + notes.length === 0;
  const told = json ? JSON.stringify({ whole, ...report }) : linesOf(report, to, whole).join("\n");
  await printOutcome(io, told);
  return whole ? ExitCode.DONE : ExitCode.FAILED;
}

function linesOf(report: RepairReport, to: string, whole: boolean): string[] {
  const { packets, bytes, deadPackets, deadBytes, notes } = report;
  const dead = deadPackets + report.lostDeadIds.length + (report.lostDeadPackets ?? 0) === 0
    ? ""
    : `, and ${formatThings(deadPackets, "dead letter")}, ${formatBytes(deadBytes)}`;
  return [
    `saved ${formatPackets(packets)}, ${formatBytes(bytes)}${dead}, into ${to}, which is sound`,
    ...lossOf("packet", report.lostPackets, report.lostIds),
    ...lossOf("dead letter", report.lostDeadPackets, report.lostDeadIds),
    ...notes.map((note) => `note: ${note}`),
    ...(whole ? ["nothing was lost"] : []),
  ];
}

function lossOf(name: string, lost: number | undefined, ids: readonly IdRange[]): string[] {
  if (lost === 0 || (lost === undefined && ids.length === 0)) return [];
  const known = ids.reduce((sum, { firstId, lastId }) => sum + lastId + 1 - firstId, 0);
  const count = lost ?? known;
  const words = formatThings(count, name);
  return [
    lost === undefined ? `lost up to ${words}:` : `lost ${words}${ids.length > 0 ? ":" : ""}`,
    ...ids.map(({ firstId, lastId }) =>
      `  ${known > count && firstId < lastId ? "among " : ""}${formatIds(firstId, lastId)}`
    ),
  ];
}

/** `sendq backup`: a copy of a queue, also of one in use. */

import { Command } from "commander";
import { backUpQueue } from "../../queue/inspect/backup.ts";
import { OptionAdder } from "../arguments/option_adder.ts";
import { requireFile } from "../arguments/queue_place.ts";
import { checkPermissions } from "../../permissions/permissions.ts";
import { CommandError, EXIT_CODE_HELP, ExitCode, UsageError } from "../terminal/exit_code.ts";
import { formatBytes, formatPackets, formatThings } from "../terminal/figures.ts";
import { printOutcome } from "../terminal/output.ts";
import type { Stdio } from "../terminal/stdio.ts";
import { requireQueue } from "./queue_view.ts";
import { beginCopy, finishFile, unfinishedPathOf, wouldBeOfQueue } from "./unfinished.ts";

const HELP = `
The copy is the queue as it is at one moment, in one file. A sender and programs
that enqueue may go on meanwhile; SQLite's log grows until the copy is done. (cp
of a queue in use misses its log, and with it the newest packets.) The copy is
then checked, as by sendq check. Until it is whole it is called
copy.db.unfinished: one that was interrupted can be removed, with a -journal
beside it.

To go back to a copy, stop every program that uses the queue, remove the queue's
-wal and -shm files, and put the copy in the queue's place. What was delivered
since then is sent again, and what was stored since then is gone.

Example:
  sendq backup -q outbox.db outbox-2026-11-26.db

Permissions:
  deno run --allow-read=outbox.db,copy.db,copy.db-wal,copy.db.unfinished \\
    --allow-write=copy.db,copy.db.unfinished \\
    src/cli/main.ts backup -q outbox.db copy.db

${EXIT_CODE_HELP}
`;

const INSTEAD = "A queue on PostgreSQL is backed up with its database: pg_basebackup, or " +
  "pg_dump --schema=sendq; sendq export writes its packets";

export function backupCommand(finish: (code: ExitCode) => void, io: Stdio): Command {
  const command = new Command("backup")
    .summary("copy a queue, also while a sender runs")
    .description("Copy a queue into a new file, also while a sender runs.")
    .argument("<to>", "the copy, which must not be there yet");
  new OptionAdder(command)
    .group("Queue")
    .required("-q, --queue <file>", "the queue's file")
    .group("Output")
    .flag("--json", "print an object");
  return command
    .addHelpText("after", HELP)
    .action(async (to: string, options: { readonly queue: string; readonly json?: boolean }) =>
      finish(await backup(options.queue, to, options.json ?? false, io))
    );
}

/** A spool is copied with all of its queues. */
async function copy(from: string, to: string) {
  const { isSpool } = await import("../../spool/inspector.ts");
  if (!await isSpool(from)) {
    const { counts, problems } = await backUpQueue(from, to);
    const { packets, bytes, deadPackets, lastId } = counts;
    return { packets, bytes, deadPackets, lastId, queues: undefined, problems };
  }
  const { backUpSpool, totalOf } = await import("../../spool/whole_file.ts");
  const { queues, problems } = await backUpSpool(from, to);
  return { ...totalOf(queues), queues: queues.length, problems };
}

async function backup(
  queue: string,
  to: string,
  json: boolean,
  io: Stdio,
): Promise<ExitCode> {
  // A queue of a spool is copied with the spool.
  const from = requireFile(queue, INSTEAD);
  const made = [to, unfinishedPathOf(to)];
  // SQLite would delete a log that lies there of a queue that is gone.
  checkPermissions({ files: [from, `${to}-wal`, ...made], outputs: made });
  requireQueue(from);
  if (wouldBeOfQueue(to, from)) {
    throw new UsageError("the copy must not be the queue itself, nor a file of it");
  }
  const { problems, ...copied } = await copy(from, beginCopy(to));
  finishFile(to);
  const { packets, bytes, deadPackets, queues } = copied;
  const dead = deadPackets === 0 ? "" : `, and ${formatThings(deadPackets, "dead letter")}`;
  const of = queues === undefined ? "" : ` in ${formatThings(queues, "queue")}`;
  await printOutcome(
    io,
    json
      ? JSON.stringify({ path: to, ...copied, problems })
      : `copied ${formatPackets(packets)}, ${formatBytes(bytes)}${dead}${of}, to ${to}`,
  );
  const [first] = problems;
  if (first === undefined) return ExitCode.DONE;
  throw new CommandError(
    `the copy is damaged, as ${from} is (${first.words}); sendq check ${from} says more`,
  );
}

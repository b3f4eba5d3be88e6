/** `sendq check`: whether a queue is sound. */

import { Command } from "commander";
import { QueueFileError } from "../../base/errors.ts";
import { isQueueUrl } from "../../postgres/address.ts";
import type { QueueCounts } from "../../queue/inspect/inspection.ts";
import type { QueueProblem } from "../../queue/inspect/integrity.ts";
import { addQueueOption, QUEUE_THERE } from "../arguments/options.ts";
import { OptionAdder } from "../arguments/option_adder.ts";
import { formatSpoolAddress } from "../../spool/address.ts";
import { fileOf } from "../arguments/queue_place.ts";
import { GIVE_A_QUEUE } from "../../queue/inspect/open_for_looking.ts";
import { queueFileError } from "../../queue/sqlite/file_error.ts";
import { logPathOf } from "../../queue/sqlite/file_identity.ts";
import { missingFlags } from "../terminal/flags.ts";
import { checkPermissions } from "../../permissions/permissions.ts";
import { EXIT_CODE_HELP, ExitCode } from "../terminal/exit_code.ts";
import { formatBytes, formatPackets, formatThings } from "../terminal/figures.ts";
import { Printer, printLine } from "../terminal/output.ts";
import type { Stdio } from "../terminal/stdio.ts";
import {
  LOOK_PERMISSIONS,
  openForLooking,
  POSTGRES_PERMISSIONS,
  requireQueue,
} from "./queue_view.ts";

const HELP = `
SQLite checks every page of the file, then packets, dead letters and counts are
held against each other. A sender may run meanwhile; its log grows until the
check is done. A bit that has flipped in a packet is found by its batch's
checksum; dead letters carry none, nor do packets that version 0.2 or an older
one has stored.

On PostgreSQL each row is read and held against its checksum by the database,
and then against the counts, all as of one moment; old rows are not cleaned away
meanwhile.

Prints what is wrong, one a line, and exits 1. Of a file sendq repair then saves
what can be read into a new one.

Examples:
  sendq check -q outbox.db
  sendq check -q outbox.db --json | jq .problems

Permissions:
  deno run ${LOOK_PERMISSIONS} src/cli/main.ts check -q outbox.db
${POSTGRES_PERMISSIONS}

${EXIT_CODE_HELP}
`;

interface CheckOptions {
  readonly queue: string;
  readonly json?: boolean;
}

export function checkCommand(finish: (code: ExitCode) => void, io: Stdio): Command {
  const command = new Command("check")
    .summary("look for damage in a queue")
    .description("Look for damage in a queue.");
  const options = new OptionAdder(command).group("Queue");
  addQueueOption(options, QUEUE_THERE);
  options
    .group("Output")
    .flag("--json", "print an object");
  return command
    .addHelpText("after", HELP)
    .action(async (options: CheckOptions) => finish(await check(options, io)));
}

async function check({ queue: path, json = false }: CheckOptions, io: Stdio): Promise<ExitCode> {
  const { counts, problems, damaged = path } = await inspect(path);
  const ok = problems.length === 0;
  if (json) {
    await printLine(io, JSON.stringify({ ok, problems, ...counts }));
  } else if (ok) {
    const dead = counts?.deadPackets ?? 0;
    await printLine(
      io,
      `ok: ${formatPackets(counts?.packets ?? 0)}, ${formatBytes(counts?.bytes ?? 0)}` +
        (dead === 0 ? "" : `, and ${formatThings(dead, "dead letter")}`),
    );
  } else {
    const out = Printer.on(io);
    for (const { kind, words } of problems) await out.line(`${kind}: ${words}`);
    await out.line(
      isQueueUrl(path)
        ? "damaged; fail over to a standby, or restore the database (sendq export saves packets)"
        : `damaged; save what can be read: sendq repair ${damaged} NEW.db`,
    );
    await out.flush();
  }
  return ok ? ExitCode.DONE : ExitCode.FAILED;
}

/** All queues of a spool. */
async function inspectSpool(file: string): ReturnType<typeof inspect> {
  const { checkSpool, totalOf } = await import("../../spool/whole_file.ts");
  const { spooledQueues } = await import("../../spool/inspector.ts");
  const problems = await checkSpool(file);
  if (problems.length > 0) {
    return { counts: undefined, problems, damaged: formatSpoolAddress({ file, name: "NAME" }) };
  }
  return { counts: totalOf(await spooledQueues(file)), problems };
}

async function inspect(
  path: string,
): Promise<{
  counts: Pick<QueueCounts, "packets" | "bytes" | "deadPackets"> | undefined;
  problems: QueueProblem[];
  /** What `sendq repair` takes, where it is something else. */
  damaged?: string;
}> {
  if (fileOf(path) === path) {
    checkPermissions({ files: [path] });
    requireQueue(path);
    const { isSpool } = await import("../../spool/inspector.ts");
    if (await isSpool(path)) return await inspectSpool(path);
  }
  try {
    using inspector = await openForLooking(path);
    const problems = await inspector.check();
    const counts = problems.length === 0 ? await inspector.counts() : undefined;
    return { counts, problems };
  } catch (error) {
    if (!(error instanceof QueueFileError)) throw error;
    if (error.reason !== "corrupt" && error.reason !== "not-a-queue") throw error;
    // So damaged that it cannot even be opened.
    const isCorrupt = error.reason === "corrupt";
    const words = isCorrupt ? error.message : await firstPageWords(path, error);
    return { counts: undefined, problems: [{ kind: "pages", words }] };
  }
}

/**
 * Tells a queue whose first page is damaged from what never was one.
 *
 * @throws {QueueFileError} It is none.
 */
async function firstPageWords(path: string, error: QueueFileError): Promise<string> {
  const file = fileOf(path);
  if (file === undefined) throw error;
  const log = logPathOf(file);
  const mayLook = missingFlags({ files: [log] }).length === 0;
  const { holdsPackets } = await import("../../queue/repair/repair.ts");
  const holds = holdsPackets(file, mayLook);
  if (holds === undefined) throw error;
  if (holds) return `Queue ${path}: its first page is damaged.`;
  const more = mayLook ? "" : ` With --allow-read=${log} its log is looked into, too.`;
  throw queueFileError("not-a-queue", path, "nothing of a queue was found in it", {
    cause: error,
    advice: GIVE_A_QUEUE + more,
  });
}

/** `sendq postgres setup`: what a queue needs in a database. */

import { Command, InvalidArgumentError } from "commander";
import { messageOf } from "../../base/errors.ts";
import { checkPermissions } from "../../permissions/permissions.ts";
import { formatAddress, parseQueueUrl } from "../../postgres/address.ts";
import { passwordOf } from "../arguments/queue_place.ts";
import { EXIT_CODE_HELP, ExitCode } from "../terminal/exit_code.ts";
import { printable } from "../terminal/figures.ts";
import { printLine } from "../terminal/output.ts";
import type { Stdio } from "../terminal/stdio.ts";

const HELP = `
setup makes the schema sendq in the database, the roles sendq_producer,
sendq_sender and sendq_operator, and the queue, where they are not there yet;
what is there stays. It may be run again at any time, and has to be after an
update of sendq that says so. It needs CREATE on the database, and CREATEROLE
unless the roles are there already; no superuser.

A user who enqueues needs the first role, one who sends the second, one who
looks at packets, puts dead letters back or removes packets the third: GRANT
sendq_producer TO app.

Example:
  sendq postgres setup postgres://postgres@db1:5432/packets/outbox

Permissions:
  deno run --allow-net=db1:5432 src/cli/main.ts postgres setup postgres://...
With --allow-env=PGPASSWORD the password may stand in that variable.

${EXIT_CODE_HELP}
`;

export function postgresCommand(finish: (code: ExitCode) => void, io: Stdio): Command {
  return new Command("postgres")
    .summary("make what a queue on PostgreSQL needs")
    .description("Make the schema, the roles and a queue in a database of PostgreSQL.")
    .argument("<what>", "setup", parseWhat)
    .argument(
      "<url>",
      "postgres://USER@HOST:PORT/DATABASE/QUEUE; the queue may be left out",
      parseUrl,
    )
    .addHelpText("after", HELP)
    .action(async (_: string, url: string) => finish(await setUpDatabase(url, io)));
}

function parseWhat(text: string): string {
  if (text !== "setup") throw new InvalidArgumentError("There is setup, and nothing else.");
  return text;
}

function parseUrl(text: string): string {
  try {
    parseQueueUrl(text);
    return text;
  } catch (error) {
    throw new InvalidArgumentError(messageOf(error));
  }
}

async function setUpDatabase(url: string, io: Stdio): Promise<ExitCode> {
  const address = parseQueueUrl(url);
  checkPermissions({ databases: address.hosts });
  const { setUp } = await import("../../postgres/setup.ts");
  const { versionBefore, version, queue } = await setUp(url, passwordOf(url).password);
  const schema = versionBefore === version
    ? `the schema sendq is there, version ${version}`
    : versionBefore === 0
    ? `made the schema sendq, version ${version}`
    : `brought the schema sendq from version ${versionBefore} to ${version}`;
  const which = queue === undefined ? "" : `; the queue ${printable(queue)} is ready`;
  await printLine(io, `${formatAddress(address)}: ${schema}${which}`);
  return ExitCode.DONE;
}

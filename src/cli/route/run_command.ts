/** `sendq run`: the routes of a file. */

import { Command } from "commander";
import {
  addDeliveryOptions,
  addQueueOptions,
  checkDeliveryOptions,
  type DeliveryCommandOptions,
} from "../arguments/options.ts";
import { OptionAdder } from "../arguments/option_adder.ts";
import { EXIT_CODE_HELP, type ExitCode } from "../terminal/exit_code.ts";
import type { Stdio } from "../terminal/stdio.ts";

const HELP = `
A route file is JSON with comments. Names are those of docs/OPTIONS.md; times
and sizes are written as here ("10s", "64KiB"), or as numbers in the unit of the
name:

  {
    "queue": "outbox.db",
    "remote": "tcp://legacy:4000",
    // Without it packets come by sendq enqueue.
    "relay": { "listen": ["tcp://127.0.0.1:4001"] },
    "input": "lines",
    "holdMs": "2s",
    "http": { "address": "127.0.0.1:9465" }
  }

Several routes in one process, each with a queue of its own:
  { "routes": { "plc": { … }, "logs": { … } }, "http": { … }, "log": { … } }

Options of the command line win over the file, in every route. SIGHUP reads the
file and its secrets anew: the pace changes at once, times and the session with
the next connection; what needs a restart is named and stays. A file with a
mistake changes nothing. One route that fails leaves the others to go on, and
makes the exit code 1. One of several whose queue is in use elsewhere is tried
again until it is free. A route from a queue on PostgreSQL waits for its turn by
itself, and waits again when it has lost it. docs/route.schema.json completes
names in editors.

Examples:
  What is wrong with a file, and which permissions it needs:
    sendq run --check route.json

  Run it:
    sendq run route.json

  Read it anew:
    kill -HUP PID; systemctl reload sendq

Permissions: sendq run --check prints the smallest flags for a file. For itself
it needs --allow-read=route.json. As a systemd service with Type=notify it needs
--allow-env=NOTIFY_SOCKET,WATCHDOG_USEC as well.

${EXIT_CODE_HELP}
`;

export function runCommand(finish: (code: ExitCode) => void, io: Stdio): Command {
  const command = new Command("run")
    .summary("deliver what a route file says, one route or several")
    .description("Run the routes of a file: queues, servers, clients, sessions, status page.")
    .argument("<file>", "the route file");
  const options = new OptionAdder(command).group("File");
  options.flag("--check", "say what is wrong and which permissions it needs, and start nothing");
  addQueueOptions(options);
  addDeliveryOptions(options);
  return command
    .addHelpText("after", HELP)
    .action(
      async (path: string, options: DeliveryCommandOptions & { readonly check?: boolean }) => {
        if (options.verbose || options.quiet) checkDeliveryOptions(options);
        // Loaded only here: no other command pays for it at its start.
        const { checkFile, runFile } = await import("./run.ts");
        finish(await (options.check ? checkFile : runFile)(path, command, io));
      },
    );
}

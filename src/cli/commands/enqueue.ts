/**
 * `sendq enqueue`: packets from a script into a queue, whether or not a sender
 * runs on it.
 */

import { Command } from "commander";
import {
  addOversizeOption,
  addQueueOption,
  addQueueOptions,
  framingHelp,
} from "../arguments/options.ts";
import { appended, OptionAdder } from "../arguments/option_adder.ts";
import { EXIT_CODE_HELP, type ExitCode } from "../terminal/exit_code.ts";
import type { Stdio } from "../terminal/stdio.ts";
import { enqueue, type EnqueueCommandOptions, givesPackets } from "./enqueue_packets.ts";

const HELP = `
Packets come from the arguments, from --file, or else from stdin. Each is on
disk when the command ends; the sender on this queue, in another process, is
woken at once. Without one they wait for it. A full queue makes the command
wait, unless --overflow says otherwise.

The sender sends each as it is stored here, whatever its own framing: give
--output as the server wants it, or --config with the sender's route file. Bytes
that are no UTF-8 come on stdin or by --file.

SIGTERM, SIGINT or SIGHUP stop reading stdin at the end of the packet that was
begun, which has a second to come; what was read is stored, and the exit code is
75. A packet that was read and is lost makes it 1. A second signal stops at
once.

Examples:
  sendq enqueue -q outbox.db "temperature 21.5"
  sendq enqueue -q outbox.db --file one.bin --file two.bin
  producer | sendq enqueue -q outbox.db --json

Permissions:
  deno run --allow-read=outbox.db,outbox.db.lock \\
    --allow-write=outbox.db,outbox.db.lock \\
    src/cli/main.ts enqueue -q outbox.db ...
and --allow-read for each --file.

${framingHelp()}

${EXIT_CODE_HELP}
`;

export function enqueueCommand(finish: (code: ExitCode) => void, io: Stdio): Command {
  const command = new Command("enqueue")
    .summary("put packets into a queue for its sender")
    .description("Put packets into a queue, while a sender runs on it elsewhere or later.")
    .argument("[packet...]", "packets as text (default, and -: stdin)");
  const options = new OptionAdder(command).group("Packets");
  addQueueOption(options);
  options
    .value("--file <path>", "a file that is one packet; may be given several times", appended)
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
      const isOfFile = (name: string) => command.getOptionValueSource(name) === "config";
      const { input, oversize, ...others } = options;
      const given = {
        ...others,
        ...(input === undefined || isOfFile("input") ? {} : { input }),
        ...(oversize === undefined || isOfFile("oversize") ? {} : { oversize }),
      };
      finish(await enqueue(texts, givesPackets(texts, options) ? given : options, io));
    });
}

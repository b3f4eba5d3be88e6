/** `sendq send`: from a pipe, through the queue, to a server. */

import { Command } from "commander";
import type { Remote } from "../../base/remote.ts";
import { within } from "../../base/waits.ts";
import type { Sender } from "../../sender/sender.ts";
import {
  addDeliveryOptions,
  addOversizeOption,
  addQueueOption,
  addQueueOptions,
  checkDeliveryOptions,
  type DeliveryCommandOptions,
  framingHelp,
  type FramingOptions,
  splitterFor,
} from "../arguments/options.ts";
import { OptionAdder } from "../arguments/option_adder.ts";
import { parseRemoteArgument } from "../arguments/values.ts";
import { LAST_WORDS_MS, type Planned } from "../session/plan.ts";
import { deliveryNeeds, runPlanned } from "../session/session.ts";
import { StdinIntake } from "../session/stdin_intake.ts";
import { EXIT_CODE_HELP, type ExitCode, explain, UsageError } from "../terminal/exit_code.ts";
import { formatBytes } from "../terminal/figures.ts";
import { printBytes, type RouteLog } from "../terminal/output.ts";
import type { Stdio } from "../terminal/stdio.ts";

const HELP = `
Packets are stored in the queue's file first and removed once the server's
kernel has acknowledged every byte, or over a Unix socket, once its program has
read them. At the end of input, send exits 0 once everything is confirmed.
SIGTERM, SIGINT or SIGHUP stop reading at the end of the packet that was begun,
which has a second to come, and deliver for --deliver-timeout, of which that
second is a part: where it is shorter, so is the wait for the packet. A second
signal exits at once. What is not confirmed stays in the file. With nohup a
SIGHUP is ignored. A packet that was read in part and is lost makes the exit
code 1, and so do packets that have left the queue undelivered meanwhile:
expired (--ttl), given up (--max-attempts), refused (--confirm answer) or
damaged ones, which are dead letters, and those that were dropped (--overflow
drop-oldest). The last lines count them.

Examples:
  Send each line that a program prints:
    producer | sendq send tcp://192.0.2.7:4000 --queue outbox.db

  Length-prefixed packets, through restarts of the producer:
    producer | sendq send tcp://legacy:4000 -q outbox.db -i length32 --follow

  Deliver what is left from the last time, then exit:
    sendq send tcp://legacy:4000 -q outbox.db < /dev/null

  Deliver what other processes enqueue, as a service:
    sendq send tcp://legacy:4000 -q outbox.db --input none --log-format json

  The same with a status page (needs --allow-net=127.0.0.1:9465, too):
    sendq send tcp://legacy:4000 -q outbox.db --input none --http 127.0.0.1:9465

  To a server that wants a login (needs --allow-read=login.txt, too):
    printf 'AUTH secret\\r\\n' > login.txt
    producer | sendq send tcp://192.0.2.7:6379 -q outbox.db \\
      --session-send @login.txt --session-expect '+OK\\r\\n'

  To a server on this host; what its program has read is confirmed:
    producer | sendq send unix:/run/app.sock -q outbox.db

  To a server that answers each packet, and may refuse it:
    producer | sendq send tcp://192.0.2.7:4000 -q outbox.db \\
      --confirm answer --accepted OK --refused ERR

  Through a proxy (--allow-net=proxy:1080, and --allow-read=login.txt):
    producer | sendq send tcp://192.0.2.7:4000 -q outbox.db \\
      --via socks5://proxy:1080 --via-credentials-file login.txt

Permissions, for the first example on Debian, x86_64:
  deno run --allow-net=192.0.2.7:4000 \\
    --allow-read=outbox.db,outbox.db.lock \\
    --allow-write=outbox.db,outbox.db.lock \\
    --allow-ffi=/lib/x86_64-linux-gnu/libc.so.6 \\
    src/cli/main.ts send tcp://192.0.2.7:4000 --queue outbox.db
What is missing is named by the message, with the flag to add. TLS needs
--allow-read for the files of --tls-ca, --tls-cert, --tls-key and
--tls-passphrase-file, and nothing else. A server on a Unix socket, unix:PATH,
needs --allow-net=unix:PATH, and PATH in --allow-read and --allow-write.
--source ADDRESS needs --allow-net=ADDRESS:0 beside the server.

${framingHelp()}

${EXIT_CODE_HELP}
`;

export interface SendOptions extends DeliveryCommandOptions, Omit<FramingOptions, "input"> {
  /** The server, where a route file has it. */
  readonly remote?: Remote;
  /** How packets are told apart on stdin; `none`: stdin is not read. */
  readonly input: FramingOptions["input"] | "none";
  readonly follow?: boolean;
  readonly received: "discard" | "stdout";
}

export function sendCommand(finish: (code: ExitCode) => void, io: Stdio): Command {
  const command = new Command("send")
    .summary("deliver packets from stdin, or from the queue alone")
    .description("Deliver packets from stdin to a TCP server, through a queue on disk.")
    .argument(
      "[remote]",
      "the server: tcp://HOST:PORT, tls://HOST:PORT, unix:PATH, several with commas, or " +
        "listen://HOST:PORT",
      parseRemoteArgument,
    );
  const options = new OptionAdder(command).group("Packets");
  addQueueOption(options);
  options
    .framing("-i, --input <framing>", "packets on stdin", "lines", ["none"])
    .framing("-o, --output <framing>", "packets on the wire (default: as on stdin)")
    .flag("-f, --follow", "go on after the end of input, for what other processes enqueue")
    .choice("--received <where>", "bytes that the server sends", ["discard", "stdout"], "discard");
  addOversizeOption(options);
  addQueueOptions(options);
  addDeliveryOptions(options);
  return command
    .addHelpText("after", HELP)
    .action(async (argument: Remote | undefined, options: SendOptions) => {
      const remote = argument ?? options.remote;
      if (remote === undefined) throw new UsageError("missing required argument 'remote'");
      finish(await runPlanned(planSend({ ...options, remote }, io)));
    });
}

/**
 * What `send` does with its options, and what it needs for it.
 *
 * @throws {OptionError | UsageError} They contradict each other.
 */
export function planSend(options: SendOptions & { readonly remote: Remote }, io: Stdio): Planned {
  const { input, output, remote } = options;
  if (input === "none" && output !== undefined) {
    throw new UsageError(
      "--output needs an input: packets that other processes enqueue are sent as they were stored",
    );
  }
  checkDeliveryOptions(options);
  const splitter = input === "none" ? undefined : splitterFor({ ...options, input });
  return {
    needs: deliveryNeeds(remote, options),
    plan: {
      remote,
      options,
      io,
      openIntake: (sender, log) =>
        splitter && new StdinIntake({
          ...{ splitter, log, io, follow: options.follow === true },
          store: (packets, signal) => sender.enqueueMany(packets, { signal }),
          isOpen: () => sender.state !== "closed",
          limits: sender.queue.limits,
        }),
      handleReceived: (sender, log) => {
        if (options.received === "stdout") return passToStdout(sender, log, io);
        const cancelled = sender.received.cancel();
        return () => cancelled;
      },
    },
  };
}

/**
 * A reader of stdout that is slow or has gone costs no packet, and neither does a disk that is full.
 *
 * @returns Waits a short time for the rest, and says what is missing.
 */
function passToStdout(sender: Sender, log: RouteLog, io: Stdio): () => Promise<void> {
  let passedBytes = 0;
  let isSlow = false;
  let isGone = false;
  const gone = (why: string) => {
    isGone = true;
    log.warn(`${why}; what the server sends is discarded`);
  };
  const passing = (async () => {
    try {
      for await (const chunk of sender.received) {
        if (!await printBytes(io, chunk)) return gone("nobody reads stdout any more");
        passedBytes += chunk.length;
        if (isSlow || sender.stats().receivedBytesDiscarded === 0) continue;
        isSlow = true;
        log.warn("stdout takes too slowly what the server sends: a part of it is discarded");
      }
    } catch (error) {
      gone(explain(error));
    }
  })();
  return async () => {
    await within(LAST_WORDS_MS, passing);
    const { receivedBytes } = sender.stats();
    if (isGone || receivedBytes === passedBytes) return;
    log.warn(
      `of ${formatBytes(receivedBytes)} that the server has sent, up to ` +
        `${
          formatBytes(receivedBytes - passedBytes)
        } are missing on stdout, which took them too slowly`,
    );
  };
}

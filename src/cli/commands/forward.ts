/** `sendq forward`: an edge's packets, through a file of its own, into a queue of a cluster. */

import { Command, InvalidArgumentError } from "commander";
import { systemClock } from "../../base/clock.ts";
import { CLOSE_OPTIONS } from "../../base/option_table.ts";
import { FORWARDER_OPTIONS, STATUS_OPTIONS } from "../../base/subpath_option_table.ts";
import { resolveOptions } from "../../base/options.ts";
import type { QueueStats } from "../../base/queue_stats.ts";
import { within } from "../../base/waits.ts";
import type { StatusServer } from "../../observe/http.ts";
import { checkPermissions } from "../../permissions/permissions.ts";
import { isQueueUrl, parseQueueUrl } from "../../postgres/address.ts";
import type { Forwarder } from "../../postgres/forwarder.ts";
import { inOneLine } from "../../sender/condition.ts";
import { kindOf } from "../../sender/outage.ts";
import { isSpoolAddress } from "../../spool/address.ts";
import { givenOf } from "../terminal/flags.ts";
import { OptionAdder } from "../arguments/option_adder.ts";
import {
  addOutputOptions,
  addOversizeOption,
  addQueueOption,
  addQueueOptions,
  asUsageError,
  checkPageAddress,
  type DeliveryCommandOptions,
  framingHelp,
  type FramingOptions,
  type LOG_OPTIONS,
  logLevelOf,
  type QueueCommandOptions,
  queueOptionsOf,
  splitterFor,
} from "../arguments/options.ts";
import { passwordOf, requireFile } from "../arguments/queue_place.ts";
import { checkedQueue, parseHttpAddress } from "../arguments/values.ts";
import { type Intake, LAST_WORDS_MS, settled, stopIntake } from "../session/plan.ts";
import { ServiceManager } from "../session/service_manager.ts";
import { endWith, every, Undelivered } from "../session/session.ts";
import { SizeLimit, StopSignals } from "../session/signals.ts";
import { checkToken, listenError, statusPageNeeds, tokenOf } from "../session/status_page.ts";
import { queueFields } from "../session/status_view.ts";
import { StdinIntake } from "../session/stdin_intake.ts";
import {
  EXIT_CODE_HELP,
  type ExitCode,
  exitCodeOf,
  explain,
  UsageError,
} from "../terminal/exit_code.ts";
import { formatCount, formatPackets } from "../terminal/figures.ts";
import { LogConsole } from "../terminal/output.ts";
import type { Stdio } from "../terminal/stdio.ts";

/** Stands before the names of a forwarder's options: the file has options of the same names. */
const TO = "to.";

const HELP = `
Packets go into the file first, and from there into the cluster's queue: each
once, in their order. What stores into the file (this command's stdin, sendq
enqueue, a program) needs no cluster: while that cannot be reached or is full,
packets wait in the file. One leaves it once the cluster has said that it has
it. Dead letters stay in the file.

A file that was restored from a backup, copied, or removed and made anew is
refused: nobody knows which of its packets the cluster has. The message says
what to do; --as-new forwards all that is in it, once. Give each edge of a queue
a name of its own: --edge.

Without --input, what other processes store is forwarded, until SIGTERM, SIGINT
or SIGHUP. These stop reading and forward for --deliver-timeout more; a second
one exits at once. At the end of stdin, forward exits 0 once everything is
forwarded, unless --follow is given; 1 where packets have expired, were damaged
or dropped meanwhile: the last lines count them.

Examples:
  As a service, for what other processes store:
    sendq forward -q outbox.db --edge "plant 7" \\
      --to postgres://sendq@db1,db2/packets/outbox

  For each line that a program prints:
    producer | sendq forward -q outbox.db -i lines \\
      --to postgres://sendq@db1/packets/outbox

Permissions, for the first example:
  deno run --allow-net=db1:5432,db2:5432 \\
    --allow-read=outbox.db,outbox.db.lock \\
    --allow-write=outbox.db,outbox.db.lock \\
    src/cli/main.ts forward -q outbox.db --to postgres://...
With --allow-env=PGPASSWORD the password may stand in that variable.

${framingHelp()}

${EXIT_CODE_HELP}
`;

/** Those of a command that delivers which `forward` has, too. */
type SharedOptions =
  | (keyof QueueCommandOptions | keyof typeof CLOSE_OPTIONS | keyof typeof STATUS_OPTIONS)
  | (keyof typeof LOG_OPTIONS | "http" | "httpTokenFile" | "verbose" | "quiet");

interface ForwardOptions
  extends Pick<DeliveryCommandOptions, SharedOptions>, Omit<FramingOptions, "input"> {
  readonly to: string;
  readonly input: FramingOptions["input"] | "none";
  readonly follow?: boolean;
}

export function forwardCommand(finish: (code: ExitCode) => void, io: Stdio): Command {
  const command = new Command("forward")
    .summary("forward an edge's file into a queue of a cluster")
    .description("Forward the packets of an edge's file into a queue on PostgreSQL, each once.");
  const options = new OptionAdder(command).group("Packets");
  addQueueOption(options, "the edge's file; made where there is none");
  options
    .framing("-i, --input <framing>", "packets on stdin", "none", ["none"])
    .framing("-o, --output <framing>", "packets on the wire (default: as on stdin)")
    .flag("-f, --follow", "go on after the end of input, for what other processes enqueue");
  addOversizeOption(options);
  options
    .group("Cluster")
    .required("--to <url>", "the queue: postgres://USER@HOST[,HOST]/DATABASE/NAME", parseTo)
    .table(FORWARDER_OPTIONS, {}, TO)
    .table(CLOSE_OPTIONS, resolveOptions(CLOSE_OPTIONS, {}));
  addQueueOptions(options);
  options
    .group("Status")
    .value(
      "--http <address>",
      "serve /healthz, /metrics and /status there: 127.0.0.1:9465",
      parseHttpAddress,
    )
    .flag(
      "--http-token-file <file>",
      "what readers have to know; needed beyond 127.0.0.1 and [::1]",
    )
    .table(STATUS_OPTIONS, resolveOptions(STATUS_OPTIONS, {}));
  addOutputOptions(options);
  return command
    .addHelpText("after", HELP)
    .action(async (options: ForwardOptions) => finish(await forward(options, io)));
}

function parseTo(text: string): string {
  if (isQueueUrl(text)) return checkedQueue(text);
  throw new InvalidArgumentError("Expected postgres://USER@HOST/DATABASE/NAME.");
}

async function forward(options: ForwardOptions, io: Stdio): Promise<ExitCode> {
  const { queue, to, input, output, verbose, quiet, follow = false } = options;
  requireFile(queue, "What lies in a cluster is not forwarded: give the edge's own file");
  if (isSpoolAddress(queue)) {
    throw new UsageError(
      `${queue} lies in a spool, which is not forwarded: give the edge a file of its own`,
    );
  }
  if (input === "none" && (output !== undefined || follow)) {
    throw new UsageError("--output and --follow need an --input");
  }
  if (options.http === undefined && options.httpTokenFile !== undefined) {
    throw new UsageError("--http-token-file needs --http");
  }
  if (verbose && quiet) throw new UsageError("--verbose and --quiet cannot be combined");
  const splitter = input === "none" ? undefined : splitterFor({ ...options, input });
  checkPageAddress(options);
  const { listens, files } = statusPageNeeds(options);
  checkPermissions({ queues: [queue], databases: parseQueueUrl(to).hosts, listens, files });
  checkToken(options);
  const { logFormat: format } = options;
  const log = LogConsole.on(io, { format, level: logLevelOf(options), live: false });
  try {
    using _limit = new SizeLimit();
    await using forwarder = await open(options, log);
    let isOpen = true;
    const end = () => isOpen = false;
    void forwarder.closed.then(end, end);
    const intake = splitter && new StdinIntake({
      ...{ splitter, follow, log, io },
      store: (packets, signal) => forwarder.queue.enqueueMany(packets, { signal }),
      isOpen: () => isOpen,
      limits: forwarder.queue.limits,
    });
    return await new ForwardSession(forwarder, intake, options, log).run();
  } catch (error) {
    if (error instanceof UsageError) throw error;
    log.error(explain(error));
    return exitCodeOf(error);
  } finally {
    await within(LAST_WORDS_MS, log.flushed());
  }
}

async function open(options: ForwardOptions, log: LogConsole): Promise<Forwarder> {
  const { Forwarder } = await import("../../postgres/forwarder.ts");
  try {
    return await Forwarder.open(options.queue, {
      url: options.to,
      ...passwordOf(options.to),
      ...givenOf(FORWARDER_OPTIONS, options, TO),
      queueOptions: queueOptionsOf(options),
      logger: log,
    });
  } catch (error) {
    throw asUsageError(error);
  }
}

/** One run, once the file is open. */
class ForwardSession {
  readonly #forwarder: Forwarder;
  readonly #intake: Intake | undefined;
  readonly #options: ForwardOptions;
  readonly #log: LogConsole;
  /** How the file stood before anything left it. */
  readonly #before: QueueStats;
  #lastReported = "";

  constructor(
    forwarder: Forwarder,
    intake: Intake | undefined,
    options: ForwardOptions,
    log: LogConsole,
  ) {
    this.#forwarder = forwarder;
    this.#intake = intake;
    this.#options = options;
    this.#log = log;
    this.#before = forwarder.stats().queue;
  }

  async run(): Promise<ExitCode> {
    using signals = new StopSignals();
    using serviceManager = new ServiceManager(systemClock);
    await using _status = await this.#serve();
    const endReports = this.#report(serviceManager);
    // Packets are taken from here on, whether or not the cluster is there.
    serviceManager.ready();
    void signals.first.then((signal) => {
      this.#log.info(`${signal}: stopping; once more to stop at once`);
      serviceManager.stopping();
    });
    let failure: unknown;
    try {
      await this.#forward(signals);
    } catch (error) {
      failure = error;
    }
    endReports();
    // What was read as it ended is counted.
    await settled(this.#intake);
    return this.#summarize(failure);
  }

  /** Until everything is forwarded, somebody stops it, or it cannot go on. */
  async #forward({ first, second }: StopSignals): Promise<void> {
    const { deliverTimeoutMs } = this.#options;
    const forwarder = this.#forwarder;
    const stopped = first.then(() => "stop" as const);
    const intake = this.#intake?.run() ?? new Promise<never>(() => {});
    // Whoever waits for it is told; after a signal nobody does.
    intake.catch(() => {});
    let intakeError: { readonly error: unknown } | undefined;
    const ended = intake.then(() => "end" as const, (error) => {
      intakeError = { error };
      return "stop" as const;
    });
    const why = await Promise.race([
      ended,
      stopped,
      // Also by an error: what was read is stored, or refused, before the end is summed up.
      forwarder.closed.then(() => "closed" as const, () => "closed" as const),
    ]);
    if (why === "end") {
      const drained = forwarder.close({ deliverTimeoutMs: Infinity });
      const shortened = stopped.then(() => forwarder.close({ deliverTimeoutMs }));
      await Promise.race([drained, shortened, second]);
    } else {
      const stop = async () => {
        const leftMs = await stopIntake(this.#intake, deliverTimeoutMs);
        await forwarder.close({ deliverTimeoutMs: leftMs });
      };
      await Promise.race([stop(), second]);
    }
    await forwarder.close({ deliverTimeoutMs: 0 });
    if (intakeError !== undefined) throw intakeError.error;
  }

  #summarize(failure: unknown): ExitCode {
    const { queue, forwardedPackets } = this.#forwarder.stats();
    const fields = this.#fields();
    const undelivered = new Undelivered(this.#before, queue);
    if (queue.packets > 0) {
      // What has gone wrong is said behind it, and whether starting again helps.
      const next = failure === undefined ? "; the next start forwards them" : "";
      const words = `stopped: ${formatPackets(queue.packets)} kept in ${this.#options.queue}` +
        `${undelivered.words}${next}`;
      this.#log.line("warn", words, fields);
    } else {
      const words = `done: ${formatPackets(forwardedPackets)} forwarded${undelivered.words}`;
      this.#log.line("info", words, fields);
    }
    return endWith(this.#log, {
      intake: this.#intake,
      error: failure,
      keptPackets: queue.packets,
      undelivered,
      options: this.#options,
    });
  }

  async #serve(): Promise<StatusServer | undefined> {
    const { http, httpTokenFile, undeliverableLimitMs } = this.#options;
    if (http === undefined) return undefined;
    try {
      // Loaded only when asked for: nobody else pays for it at the start.
      const { serveForwarderStatus } = await import("../../observe/forwarder_http.ts");
      const token = tokenOf(httpTokenFile);
      const logger = this.#log;
      const status = serveForwarderStatus(this.#forwarder, {
        ...{ ...http, token, undeliverableLimitMs, logger },
      });
      this.#log.info(`status: ${status.url}`);
      return status;
    } catch (error) {
      await this.#forwarder.close({ deliverTimeoutMs: 0 });
      throw listenError(error, "--http");
    }
  }

  /** Says now and then how it stands, where that has changed. Returns the end of it. */
  #report(serviceManager: ServiceManager): () => void {
    const { statusIntervalMs } = this.#options;
    if (statusIntervalMs === 0) return () => {};
    const look = () => {
      const { queue, forwardedPackets } = this.#forwarder.stats();
      const condition = inOneLine(this.#forwarder.condition);
      const counts = `queued ${formatPackets(queue.packets)}, ` +
        `${formatCount(forwardedPackets)} forwarded`;
      serviceManager.status(`${condition}; ${counts}`);
      return { condition, counts };
    };
    look();
    return every(statusIntervalMs, () => {
      const { condition, counts } = look();
      // The course of an outage is told now and then; its counts are no news.
      const kind = kindOf(condition) + (this.#forwarder.outage === undefined ? counts : "");
      if (kind === this.#lastReported) return;
      this.#lastReported = kind;
      this.#log.line("info", `${condition}; ${counts}`, this.#fields());
    });
  }

  /** The state in fields; their meaning is that of `ForwarderStats`. */
  #fields(): Record<string, unknown> {
    const { queue, ...forwarding } = this.#forwarder.stats();
    return { state: this.#forwarder.state, ...forwarding, ...queueFields(queue) };
  }
}

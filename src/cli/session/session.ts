/**
 * What `send`, `relay` and `run` share: senders are opened, packets are taken in, the
 * state is shown, signals stop it, and the end has its exit code.
 *
 * @module
 */

import { systemClock } from "../../base/clock.ts";
import { isLoopback } from "../../observe/access.ts";
import type { Remote } from "../../base/remote.ts";
import { isQueueUrl } from "../../postgres/address.ts";
import { Sender } from "../../sender/sender.ts";
import {
  asUsageError,
  type DeliveryCommandOptions,
  deliveryOptionsOf,
  logLevelOf,
  queueOptionsOf,
} from "../arguments/options.ts";
import type { Needs } from "../../permissions/permissions.ts";
import { nameOfQueue, openQueue } from "../arguments/queue_place.ts";
import { formatBytes, formatPackets } from "../arguments/values.ts";
import { ExitCode, exitCodeOf, explain, UsageError } from "../terminal/exit_code.ts";
import { colorsWelcome, LogConsole, logOf, type RouteLog } from "../terminal/output.ts";
import type { Stdio } from "../terminal/stdio.ts";
import { every } from "./every.ts";
import { routesInOneLine, type RouteStatus } from "./routes_status.ts";
import { ServiceManager } from "./service_manager.ts";
import { StopSignals } from "./signals.ts";
import { openStatusPage } from "./status_page.ts";
import { StatusView } from "./status_view.ts";
import { within } from "./within.ts";

const LIVE_INTERVAL_MS = 250;
/** Lines that nobody reads do not keep the command from ending. */
const LAST_WORDS_MS = 1000;

/** Where a session's packets come from, beside other processes. */
export interface Intake {
  /** Who packets are read from, for messages: `"the pipe"`, `"clients"`. */
  readonly origin: string;
  /**
   * Takes packets in. Resolves at a natural end, after which the session
   * delivers everything and ends.
   */
  run(): Promise<void>;
  /** Takes no more in; resolves once what was taken in is stored, or cannot be. */
  stop(): Promise<void>;
  /** Packets that were read and are not on disk. */
  readonly unstoredPackets: number;
  /** Bytes that were read of a packet that did not become whole. */
  readonly unfinishedBytes: number;
}

/** What a session does. */
export interface SessionPlan {
  /** What it is called among several; undefined: it is the only one. */
  readonly name?: string | undefined;
  /** The server. */
  readonly remote: Remote;
  /** The command's options. */
  readonly options: DeliveryCommandOptions;
  /** Where it reads and prints. */
  readonly io: Stdio;
  /** What has to be had before the queue is opened; given back where it cannot be. */
  readonly acquire?: () => Promise<Disposable>;
  /** Makes what takes packets in; without it only other processes enqueue. */
  readonly openIntake?: (sender: Sender, log: RouteLog) => Intake | undefined;
  /** Passes on or discards what the server sends; ends with the sender. */
  readonly handleReceived: (sender: Sender, log: RouteLog) => Promise<void>;
}

/** A plan, and what has to be granted for it. */
export interface Planned {
  /** What to do. */
  readonly plan: SessionPlan;
  /** What it is going to use. */
  readonly needs: Needs;
}

/** What a sender was opened for. */
export interface OpenedRoute {
  /** What it does. */
  readonly plan: SessionPlan;
  /** The sender. */
  readonly sender: Sender;
  /** Its log. */
  readonly log: RouteLog;
}

/** How several sessions run in one process. */
export interface ProcessPlan {
  /** The sessions. */
  readonly plans: readonly SessionPlan[];
  /** The options of the process: of the log, and of the status page. */
  readonly options: DeliveryCommandOptions;
  /** Where it reads and prints. */
  readonly io: Stdio;
  /** Reads everything anew; without it SIGHUP stops. */
  readonly reload?: (opened: readonly OpenedRoute[], log: LogConsole) => Promise<void>;
}

/**
 * Runs a session to its end.
 *
 * @returns The exit code; every other error is in the log.
 * @throws {UsageError} An option is out of range.
 */
export function runSession(plan: SessionPlan): Promise<ExitCode> {
  return runSessions({ plans: [plan], options: plan.options, io: plan.io });
}

/**
 * Runs sessions beside each other until all have ended. One that fails leaves the others
 * to go on.
 *
 * @returns The worst of the exit codes; every other error is in the log.
 * @throws {UsageError} An option of the only session is out of range.
 */
export async function runSessions(
  { plans, options, io: { stderr }, reload }: ProcessPlan,
): Promise<ExitCode> {
  if (plans.length > 1 && plans.some(({ options }) => isQueueUrl(options.queue))) {
    throw new UsageError(
      "a sender from PostgreSQL may have to wait for its turn, and would keep the other routes " +
        "waiting: run that route by itself, with --route",
    );
  }
  const live = plans.length === 1 && stderr.isTerminal() && options.logFormat === "text";
  const log = new LogConsole({
    format: options.logFormat,
    level: logLevelOf(options),
    live,
    colors: colorsWelcome(stderr),
  }, stderr);
  using untilTheEnd = new DisposableStack();
  const codes: ExitCode[] = [];
  const fail = (error: unknown, where: RouteLog) => {
    if (error instanceof UsageError && plans.length === 1) throw error;
    reportError(where, error, options);
    codes.push(exitCodeOf(error));
  };
  const opened: OpenedRoute[] = [];
  const failures = new Map<string, string>();
  const serviceManager = untilTheEnd.use(new ServiceManager(systemClock));
  // Another one may send for as long as it likes: this one is as ready as it can be.
  const onStandBy = (words: string) => {
    serviceManager.ready();
    serviceManager.status(words);
  };
  for (const plan of plans) {
    const own = plan.name === undefined ? log : logOf(log, plan.name);
    try {
      opened.push({ plan, sender: await openSender(plan, own, onStandBy), log: own });
    } catch (error) {
      fail(error, own);
      if (plan.name !== undefined) failures.set(plan.name, explain(error));
    }
  }
  if (opened.length > 0) {
    try {
      const process = { opened, failures, options, reload, untilTheEnd, serviceManager };
      codes.push(...await runOpened(process, log));
    } catch (error) {
      fail(error, log);
    }
  }
  await within(LAST_WORDS_MS, log.flushed());
  return worstOf(codes);
}

interface OpenedProcess {
  readonly opened: readonly OpenedRoute[];
  /** Of the routes whose sender could not be opened. */
  readonly failures: ReadonlyMap<string, string>;
  readonly options: DeliveryCommandOptions;
  readonly reload: ProcessPlan["reload"];
  readonly untilTheEnd: DisposableStack;
  readonly serviceManager: ServiceManager;
}

async function runOpened(
  { opened, failures, options, reload, untilTheEnd, serviceManager }: OpenedProcess,
  log: LogConsole,
): Promise<ExitCode[]> {
  // Not before: a queue whose file is locked blocks this thread, and Ctrl-C has to
  // work meanwhile. Nothing has been read yet that could be lost.
  let reloading = Promise.resolve();
  const signals = untilTheEnd.use(
    new StopSignals(
      reload && (() => {
        // One after the other.
        reloading = reloading.then(() => reload(opened, log)).catch((error) =>
          reportError(log, error, options)
        );
      }),
    ),
  );
  await using _page = await openStatusPage(opened, failures, options, log);
  const sessions = opened.map((route) => new Session(route, log, signals));
  serviceManager.ready();
  untilTheEnd.defer(tellStatus(serviceManager, opened, failures));
  void signals.first.then((signal) => {
    log.info(`${signal}: stopping; once more to stop at once`);
    serviceManager.stopping();
  });
  return await Promise.all(sessions.map((session) => session.run()));
}

/** Keeps the service manager's line up to date. Returns the end of it. */
function tellStatus(
  serviceManager: ServiceManager,
  opened: readonly OpenedRoute[],
  failures: ReadonlyMap<string, string>,
): () => void {
  const intervals = opened.map(({ plan }) => plan.options.statusIntervalMs);
  const intervalMs = Math.min(...intervals.filter((intervalMs) => intervalMs > 0));
  if (!serviceManager.listens || intervalMs === Infinity) return () => {};
  const [only] = opened.length === 1 && failures.size === 0 ? opened : [];
  const view = only && new StatusView(only.sender);
  const name = only?.plan.name === undefined ? "" : `${only.plan.name}: `;
  const tell = () =>
    serviceManager.status(
      view === undefined ? routesInOneLine(statusesOf(opened, failures)) : name + view.words(),
    );
  tell();
  return every(intervalMs, tell);
}

function statusesOf(
  opened: readonly OpenedRoute[],
  failures: ReadonlyMap<string, string>,
): RouteStatus[] {
  return [
    ...[...failures].map(([name, detail]) => ({
      name,
      condition: { tone: "bad", headline: "Not started", detail } as const,
      queuedPackets: undefined,
    })),
    ...opened.map(({ plan: { name = "" }, sender }) => ({
      name,
      condition: sender.condition,
      queuedPackets: sender.stats().queue.packets,
    })),
  ];
}

/** What a process that does several things says of them all. */
function worstOf(codes: readonly ExitCode[]): ExitCode {
  const order = [
    ExitCode.FAILED,
    ExitCode.NOT_PERMITTED,
    ExitCode.USAGE,
    ExitCode.PACKETS_KEPT,
  ];
  return order.find((code) => codes.includes(code)) ?? ExitCode.DONE;
}

async function openSender(
  { remote, options, acquire }: SessionPlan,
  log: RouteLog,
  onStandBy: (words: string) => void,
): Promise<Sender> {
  log.debug(`opening ${nameOfQueue(options.queue)}`);
  using untilOpen = new DisposableStack();
  const acquireAll = async () => {
    const acquired = await acquire?.();
    if (acquired !== undefined) untilOpen.use(acquired);
  };
  const isInDatabase = isQueueUrl(options.queue);
  // What cannot be had is found out before anything is sent.
  if (!isInDatabase) await acquireAll();
  try {
    const sender = await Sender.open({
      ...deliveryOptionsOf(options),
      ...isInDatabase
        ? {
          queue: await openQueue(options.queue, queueOptionsOf(options), log, onStandBy),
          closesQueue: true,
        }
        : { queue: options.queue, queueOptions: queueOptionsOf(options) },
      remote,
      logger: log,
    });
    try {
      // While it stands by, clients are to find nobody here, and go to the one that sends.
      if (isInDatabase) await acquireAll();
    } catch (error) {
      await sender.close({ deliverTimeoutMs: 0 });
      throw error;
    }
    untilOpen.move();
    if (remote.listen && remote.allowFrom === undefined && !isLoopback(remote.hostname)) {
      log.warn(
        `${sender.remote} is no loopback address: whoever reaches it gets the packets; ` +
          `?from=ADDRESS behind it names who may connect`,
      );
    }
    return sender;
  } catch (error) {
    throw asUsageError(error);
  }
}

/** One run, once the queue is open. */
class Session {
  readonly #plan: SessionPlan;
  readonly #sender: Sender;
  readonly #log: RouteLog;
  readonly #console: LogConsole;
  readonly #signals: StopSignals;
  readonly #view: StatusView;
  readonly #intake: Intake | undefined;
  /** How many packets had been refused before. */
  readonly #refusedBefore: number;
  /** What ended the taking in of packets too soon. */
  #intakeError: unknown;
  /** What ended the sender too soon. */
  #failure: unknown;

  constructor(
    { plan, sender, log }: OpenedRoute,
    console: LogConsole,
    signals: StopSignals,
  ) {
    this.#plan = plan;
    this.#sender = sender;
    this.#log = log;
    this.#console = console;
    this.#signals = signals;
    this.#view = new StatusView(sender);
    this.#refusedBefore = sender.stats().queue.refusedPackets;
    this.#intake = plan.openIntake?.(sender, log);
  }

  async run(): Promise<ExitCode> {
    const stopShowing = this.#show();
    const received = this.#plan.handleReceived(this.#sender, this.#log);
    try {
      await this.#deliver();
    } catch (error) {
      this.#failure = error;
    }
    stopShowing();
    await within(LAST_WORDS_MS, received);
    return this.#summarize();
  }

  /** Until the sender is closed, or somebody is in a hurry. */
  async #deliver(): Promise<void> {
    const { first, second } = this.#signals;
    const stopped = first.then(() => "stop" as const);
    const why = await Promise.race([
      this.#takeIn(),
      stopped,
      // Also by an error: clients are not to find a relay behind which nobody stores.
      this.#sender.closed.then(() => "closed" as const, () => "closed" as const),
    ]);
    // Of packets in a file without a name the next start knows nothing.
    if (why === "end" || (why === "error" && this.#sender.queue.misplaced() !== undefined)) {
      // It is rejected if a signal has shortened it, and then has nothing to add.
      const drained = this.#sender.drained().catch(() => {}).then(() => this.#close(Infinity));
      const shortened = stopped.then(() => this.#close(this.#plan.options.deliverTimeoutMs));
      await Promise.race([drained, shortened, second]);
    } else {
      await Promise.race([this.#stop(), second]);
    }
  }

  /** Resolves when there is a reason to stop; without an intake there is none. */
  async #takeIn(): Promise<"end" | "error"> {
    if (this.#intake === undefined) return await new Promise<never>(() => {});
    try {
      await this.#intake.run();
      return "end";
    } catch (error) {
      this.#intakeError = error;
      return "error";
    }
  }

  /** What was read is stored before the sender stops, where there is time. */
  async #stop(): Promise<void> {
    const { deliverTimeoutMs } = this.#plan.options;
    const deadlineMs = systemClock.nowMs() + deliverTimeoutMs;
    await within(deliverTimeoutMs, this.#intake?.stop() ?? Promise.resolve());
    await this.#close(Math.max(0, deadlineMs - systemClock.nowMs()));
  }

  async #close(deliverTimeoutMs: number): Promise<void> {
    await this.#sender.close({ deliverTimeoutMs });
  }

  #summarize(): ExitCode {
    const { queue, drainedPackets, redeliveredPackets } = this.#sender.stats();
    const { unfinishedBytes = 0, unstoredPackets = 0, origin = "" } = this.#intake ?? {};
    const fields = this.#view.fields();
    const refusedPackets = queue.refusedPackets - this.#refusedBefore;
    const again = redeliveredPackets === 0
      ? ""
      : `, ${formatPackets(redeliveredPackets)} sent again`;
    const misplaced = this.#sender.queue.misplaced();
    if (queue.packets > 0 && misplaced !== undefined) {
      this.#failure ??= misplaced;
      this.#log.error(
        `${formatPackets(queue.packets)} were not delivered, and the next start may not find them`,
      );
    } else if (queue.packets > 0) {
      this.#log.line(
        "warn",
        `stopped: ${formatPackets(queue.packets)} kept in ${
          nameOfQueue(this.#plan.options.queue)
        }` +
          `${again}; the next start delivers them`,
        fields,
      );
    } else {
      this.#log.line(
        "info",
        `done: ${formatPackets(Math.max(0, drainedPackets - refusedPackets))} delivered${again}`,
        fields,
      );
    }
    if (unstoredPackets > 0) {
      this.#log.error(
        `${formatPackets(unstoredPackets)} read from ${origin} could not be stored: ` +
          `lost, unless they are sent to sendq again`,
      );
    }
    if (unfinishedBytes > 0) {
      this.#log.error(
        `${formatBytes(unfinishedBytes)} read from ${origin} are no whole packet: ` +
          `lost, unless it is sent to sendq again`,
      );
    }
    // What the sender failed of is why the intake failed, too.
    const error = this.#failure ?? this.#intakeError;
    if (error !== undefined) {
      reportError(this.#log, error, this.#plan.options);
      return exitCodeOf(error);
    }
    if (refusedPackets > 0) {
      this.#log.error(
        `the server refused ${formatPackets(refusedPackets)}, which ${
          refusedPackets === 1 ? "is a dead letter" : "are dead letters"
        } with its words: see sendq list --dead`,
      );
    }
    if (unstoredPackets > 0 || unfinishedBytes > 0) return ExitCode.FAILED;
    if (queue.packets > 0) return ExitCode.PACKETS_KEPT;
    return refusedPackets > 0 ? ExitCode.FAILED : ExitCode.DONE;
  }

  /** Keeps the live line, or the status in the log, up to date. Returns the end of it. */
  #show(): () => void {
    const console = this.#console;
    const endLive = console.live
      ? every(LIVE_INTERVAL_MS, () => console.showLive(this.#view.inOneLine()))
      : () => {};
    const { statusIntervalMs } = this.#plan.options;
    const endLogged = statusIntervalMs === 0 || console.live
      ? () => {}
      : every(statusIntervalMs, () => {
        const words = this.#view.report();
        if (words !== undefined) this.#log.line("info", words, this.#view.fields());
      });
    return () => {
      endLive();
      endLogged();
      console.endLive();
    };
  }
}

function reportError(log: RouteLog, error: unknown, options: DeliveryCommandOptions): void {
  log.error(explain(error));
  if (options.verbose && error instanceof Error) log.debug(error.stack ?? "");
}

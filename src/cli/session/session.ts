/** What `send`, `relay` and `run` share: from what has to be granted to the exit code. */

import { systemClock } from "../../base/clock.ts";
import { QueueFileError } from "../../base/errors.ts";
import type { QueueStats } from "../../base/queue_stats.ts";
import type { Remote } from "../../base/remote.ts";
import { within } from "../../base/waits.ts";
import { conditionOfNoSender } from "../../observe/routes.ts";
import { checkPermissions, type Listen, type Needs } from "../../permissions/permissions.ts";
import { isQueueUrl } from "../../postgres/address.ts";
import { behindOf, Sender } from "../../sender/sender.ts";
import { wayNeeds } from "../../sender/way.ts";
import {
  connectionFilesOf,
  type DeliveryCommandOptions,
  logLevelOf,
} from "../arguments/options.ts";
import { wayOf } from "../arguments/proxy.ts";
import { nameOfQueue, sendingNeeds } from "../arguments/queue_place.ts";
import { sessionFiles } from "../arguments/session.ts";
import { ExitCode, exitCodeOf, explain, UsageError } from "../terminal/exit_code.ts";
import { formatCount, formatPackets, withoutPasswords } from "../terminal/figures.ts";
import { LogConsole, logOf, type RouteLog } from "../terminal/output.ts";
import type { Stdio } from "../terminal/stdio.ts";
import {
  type Intake,
  LAST_WORDS_MS,
  type Planned,
  type SessionPlan,
  settled,
  stopIntake,
  tellLost,
} from "./plan.ts";
import { type OpenedRoute, Route, type RouteSurroundings, type SessionEnd } from "./route.ts";
import { routesInOneLine, type RouteStatus } from "./routes_status.ts";
import { ServiceManager } from "./service_manager.ts";
import { HangUps, SizeLimit, StopSignals } from "./signals.ts";
import { checkPlan } from "./sender_options.ts";
import { checkToken, openStatusPage, statusPageNeeds } from "./status_page.ts";
import { StatusView } from "./status_view.ts";

const LIVE_INTERVAL_MS = 250;
/** A route that takes longer to open lets the next one begin. */
const NEXT_ROUTE_MS = 250;

/** How several sessions run in one process. */
export interface ProcessPlan {
  readonly plans: readonly SessionPlan[];
  /** Of the process: of the log, and of the status page. */
  readonly options: DeliveryCommandOptions;
  readonly io: Stdio;
  /** Reads everything anew; without it SIGHUP stops. */
  readonly reload?: (routes: readonly Route[], log: LogConsole) => Promise<void>;
}

/** What has to be granted to deliver, and to listen at the command's own addresses. */
export function deliveryNeeds(
  remote: Remote,
  options: DeliveryCommandOptions,
  listens: readonly Listen[] = [],
): Needs {
  const page = statusPageNeeds(options);
  const way = wayNeeds(remote, wayOf(options));
  return {
    ...way,
    listens: [...listens, ...page.listens, ...way.listens],
    files: [...page.files, ...sessionFiles(options), ...connectionFilesOf(options)],
    ...sendingNeeds(options.queue),
    kernel: true,
    libc: options.libc,
    libssl: remote.scheme === "tls" && options.confirm === "reader" && (options.libssl ?? true),
  };
}

/**
 * Runs the only session of a command to its end.
 *
 * @returns The exit code; every other error is in the log.
 * @throws {OptionError | UsageError} An option is out of range.
 * @throws {Deno.errors.NotCapable} Permissions are missing; the message has every flag.
 */
export function runPlanned({ plan, needs }: Planned): Promise<ExitCode> {
  checkPlan(plan);
  checkPermissions(needs);
  checkToken(plan.options);
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
  { plans, options, io, reload }: ProcessPlan,
): Promise<ExitCode> {
  const { logFormat: format } = options;
  const live = plans.length === 1 && io.stderr.isTerminal() && format === "text";
  const log = LogConsole.on(io, { format, level: logLevelOf(options), live });
  using untilTheEnd = new DisposableStack();
  untilTheEnd.use(new SizeLimit());
  // Whoever has it read anew while queues are opened does not mean to end it.
  const hangUps = reload && untilTheEnd.use(new HangUps());
  const codes: ExitCode[] = [];
  const fail = (error: unknown, where: RouteLog) => {
    if (error instanceof UsageError && plans.length === 1) throw error;
    reportError(where, error, options);
    codes.push(exitCodeOf(error));
  };
  const serviceManager = untilTheEnd.use(new ServiceManager(systemClock));
  // Another one may send for as long as it likes: this one is as ready as it can be.
  const onStandBy = (words: string) => {
    serviceManager.ready();
    serviceManager.status(words);
  };
  const routes = plans.map((plan) => {
    const own = plan.name === undefined ? log : logOf(log, plan.name);
    // The only one ends with its sender: whoever has started it starts it again.
    return new Route(plan, own, plans.length > 1);
  });
  const running: Route[] = [];
  let listening: Stopping | undefined;
  const listen = () =>
    listening ??= listenForSignals(
      { running, options, reload, hangUps, untilTheEnd, serviceManager },
      log,
    );
  for (const route of routes) {
    running.push(route);
    try {
      if (route.standsBy) continue;
      // A right to send may be waited for as long as another one sends.
      const until = isQueueUrl(route.plan.options.queue) ? listen() : undefined;
      if (!await route.openFirst(onStandBy, until)) running.pop();
    } catch (error) {
      running.pop();
      fail(error, route.log);
    }
  }
  if (running.length > 0) {
    try {
      // Not before: the only queue may be locked, and Ctrl-C ends the wait for it at once. Nothing
      // has been read yet that could be lost.
      const process = { routes, running, options, untilTheEnd, serviceManager, ...listen() };
      codes.push(...await runRoutes(process, log));
    } catch (error) {
      fail(error, log);
    }
  }
  await within(LAST_WORDS_MS, log.flushed());
  return worstOf(codes);
}

/** What a process is told from outside. */
interface Stopping {
  readonly signals: StopSignals;
  /** Aborted with the first wish to stop. */
  readonly stopped: AbortSignal;
  /** Resolves with the second. */
  readonly hurried: Promise<unknown>;
}

interface ListeningProcess {
  /** Those that could be opened, or may be yet. */
  readonly running: readonly Route[];
  readonly options: DeliveryCommandOptions;
  readonly reload: ProcessPlan["reload"];
  readonly hangUps: HangUps | undefined;
  readonly untilTheEnd: DisposableStack;
  readonly serviceManager: ServiceManager;
}

function listenForSignals(
  { running, options, reload, hangUps, untilTheEnd, serviceManager }: ListeningProcess,
  log: LogConsole,
): Stopping {
  const signals = untilTheEnd.use(new StopSignals(hangUps));
  let reloading = Promise.resolve();
  hangUps?.listen(() => {
    // One after the other.
    reloading = reloading.then(() => reload?.(running.filter((route) => !route.hasEnded), log))
      .catch((error) => reportError(log, error, options));
  });
  const stop = new AbortController();
  void signals.first.then((signal) => {
    log.info(`${signal}: stopping; once more to stop at once`);
    serviceManager.stopping();
    stop.abort();
  });
  return { signals, stopped: stop.signal, hurried: signals.second };
}

interface RunningProcess extends Stopping, Omit<ListeningProcess, "reload" | "hangUps"> {
  /** All of them. */
  readonly routes: readonly Route[];
}

async function runRoutes(
  { routes, running, options, untilTheEnd, serviceManager, signals, stopped, hurried }:
    RunningProcess,
  log: LogConsole,
): Promise<ExitCode[]> {
  await using page = await openStatusPage(routes, options, log);
  const status = tellStatus(serviceManager, routes);
  untilTheEnd.defer(status.end);
  for (const route of routes) {
    route.onChange = () => {
      page?.show(route);
      status.tell();
    };
  }
  void Promise.all(running.map((route) => route.settled)).then(() => serviceManager.ready());
  const surroundings: RouteSurroundings = {
    stopped,
    hurried,
    deliver: (opened, beginsAgainAfter) =>
      new Session(opened, log, signals, beginsAgainAfter).run(),
    report: (error, where) => reportError(where, error, options),
  };
  const runs: Promise<ExitCode>[] = [];
  for (const route of running) {
    const run = route.run(surroundings);
    runs.push(run);
    // What it is rejected with is thrown below.
    const ended = run.then(() => {}, () => {});
    // To open a file is work without a pause, and one is opened after the other; but none waits for
    // a file that another program has locked.
    if (isQueueUrl(route.plan.options.queue)) continue;
    await within(NEXT_ROUTE_MS, Promise.race([route.settled, ended]));
  }
  return await Promise.all(runs);
}

/** Keeps the service manager's line up to date. */
function tellStatus(
  serviceManager: ServiceManager,
  routes: readonly Route[],
): { readonly tell: () => void; readonly end: () => void } {
  const intervals = routes.map(({ plan }) => plan.options.statusIntervalMs);
  const intervalMs = Math.min(...intervals.filter((intervalMs) => intervalMs > 0));
  if (!serviceManager.listens || intervalMs === Infinity) return { tell() {}, end() {} };
  const [only] = routes.length === 1 ? routes : [];
  const view = only?.sender && new StatusView(only.sender);
  const name = only?.plan.name === undefined ? "" : `${only.plan.name}: `;
  const tell = () =>
    serviceManager.status(
      view === undefined ? routesInOneLine(routes.map(statusOf)) : name + view.words(),
    );
  tell();
  return { tell, end: every(intervalMs, tell) };
}

function statusOf({ plan: { name = "" }, state }: Route): RouteStatus {
  if (state instanceof Sender) {
    return { name, condition: state.condition, queuedPackets: state.stats().queue.packets };
  }
  return { name, condition: conditionOfNoSender(state), queuedPackets: undefined };
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

/** One run, once the queue is open. */
class Session {
  readonly #plan: SessionPlan;
  readonly #sender: Sender;
  readonly #log: RouteLog;
  readonly #console: LogConsole;
  readonly #signals: StopSignals;
  readonly #beginsAgainAfter: (error: unknown) => boolean;
  readonly #view: StatusView;
  readonly #intake: Intake | undefined;
  /** What ended the taking in of packets too soon. */
  #intakeError: unknown;
  /** What ended the sender too soon. */
  #failure: unknown;

  constructor(
    { plan, sender, log }: OpenedRoute,
    console: LogConsole,
    signals: StopSignals,
    beginsAgainAfter: (error: unknown) => boolean,
  ) {
    this.#beginsAgainAfter = beginsAgainAfter;
    this.#plan = plan;
    this.#sender = sender;
    this.#log = log;
    this.#console = console;
    this.#signals = signals;
    this.#view = new StatusView(sender);
    this.#intake = plan.openIntake?.(sender, log);
  }

  async run(): Promise<SessionEnd> {
    const stopShowing = this.#show();
    const endReceived = this.#plan.handleReceived(this.#sender, this.#log);
    try {
      await this.#deliver();
    } catch (error) {
      this.#failure = error;
    }
    stopShowing();
    await endReceived();
    // What was read as the sender ended is counted.
    if (this.#sender.state === "closed") {
      await settled(this.#intake);
    }
    const code = this.#summarize();
    return { code, error: this.#error };
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
    await this.#close(await stopIntake(this.#intake, this.#plan.options.deliverTimeoutMs));
  }

  async #close(deliverTimeoutMs: number): Promise<void> {
    await this.#sender.close({ deliverTimeoutMs });
  }

  #summarize(): ExitCode {
    const { queue, confirmedPackets, redeliveredPackets } = this.#sender.stats();
    const fields = this.#view.fields();
    const undelivered = new Undelivered(behindOf(this.#sender).queueAtStart, queue);
    const again = redeliveredPackets === 0
      ? ""
      : `, ${formatPackets(redeliveredPackets)} sent again`;
    const misplaced = this.#sender.queue.misplaced();
    if (this.#beginsAgainAfter(this.#error)) {
      // The sender has told the error, and nobody has to start anything.
      const delivered = `${formatPackets(confirmedPackets)} delivered${again}${undelivered.words}`;
      this.#log.line("info", `begins again: ${delivered} so far`, fields);
      tellLost(this.#log, this.#intake);
      return exitCodeOf(this.#error);
    }
    if (queue.packets > 0 && misplaced !== undefined) {
      this.#failure ??= misplaced;
      this.#log.error(
        `not delivered, and where the next start may not look: ${formatPackets(queue.packets)}`,
      );
    } else if (queue.packets > 0 && isCorrupt(this.#error)) {
      this.#log.error(
        `not delivered, and in a file that is damaged: ${formatPackets(queue.packets)}`,
      );
    } else if (queue.packets > 0) {
      this.#log.line(
        "warn",
        `stopped: ${formatPackets(queue.packets)} kept in ${
          nameOfQueue(this.#plan.options.queue)
        }` +
          `${again}${undelivered.words}; the next start delivers ${
            queue.packets === 1 ? "it" : "them"
          }`,
        fields,
      );
    } else {
      this.#log.line(
        "info",
        `done: ${formatPackets(confirmedPackets)} delivered${again}${undelivered.words}`,
        fields,
      );
    }
    return endWith(this.#log, {
      intake: this.#intake,
      error: this.#error,
      keptPackets: queue.packets,
      undelivered,
      options: this.#plan.options,
    });
  }

  /** What the sender failed of is why the intake failed, too. */
  get #error(): unknown {
    return this.#failure ?? this.#intakeError;
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

interface End {
  readonly intake: Intake | undefined;
  /** What has ended it too soon. */
  readonly error: unknown;
  readonly keptPackets: number;
  readonly undelivered: Undelivered;
  readonly options: Pick<DeliveryCommandOptions, "verbose">;
}

/** Says what became of packets that were not delivered. Returns the exit code. */
export function endWith(
  log: RouteLog,
  { intake, error, keptPackets, undelivered, options }: End,
): ExitCode {
  const lost = tellLost(log, intake);
  if (error !== undefined) {
    reportError(log, error, options);
    return exitCodeOf(error);
  }
  undelivered.tell(log);
  if (lost) return ExitCode.FAILED;
  if (keptPackets > 0) return ExitCode.PACKETS_KEPT;
  return undelivered.any ? ExitCode.FAILED : ExitCode.DONE;
}

function reportError(log: RouteLog, error: unknown, { verbose }: End["options"]): void {
  log.error(explain(error));
  if (verbose && error instanceof Error) log.debug(withoutPasswords(error.stack ?? ""));
}

/** Each way out of the queue that is no delivery, and what it is called. */
const WAYS = [
  ["expiredPackets", "expired"],
  ["gaveUpPackets", "given up"],
  ["damagedPackets", "damaged"],
  ["refusedPackets", "refused"],
  ["droppedPackets", "dropped"],
] as const;

type Way = typeof WAYS[number][0];

/** What has left a queue undelivered between two moments. */
export class Undelivered {
  readonly #count: (way: Way) => number;

  constructor(before: QueueStats, now: QueueStats) {
    this.#count = (way) => Math.max(0, now[way] - before[way]);
  }

  /** Whether there is any. */
  get any(): boolean {
    return WAYS.some(([way]) => this.#count(way) > 0);
  }

  /** For the line that sums up: `", 3 expired, 1 dropped"`. */
  get words(): string {
    return WAYS.map(([way, name]) => {
      const count = this.#count(way);
      return count === 0 ? "" : `, ${formatCount(count)} ${name}`;
    }).join("");
  }

  /** Says of each where it is now. */
  tell(log: RouteLog): void {
    const droppedPackets = this.#count("droppedPackets");
    const refusedPackets = this.#count("refusedPackets");
    const died = this.#count("expiredPackets") + this.#count("gaveUpPackets") +
      this.#count("damagedPackets");
    if (droppedPackets > 0) {
      const [were, they] = droppedPackets === 1 ? ["was", "it was"] : ["were", "they were"];
      const dropped = formatPackets(droppedPackets);
      log.error(
        died + refusedPackets > 0
          ? `${dropped}, or dead letters, ${were} removed to make room`
          // The server may have got it all the same.
          : `${dropped} ${were} removed to make room before ${they} confirmed`,
      );
    }
    if (died > 0) {
      log.error(
        `${formatPackets(died)} ${died === 1 ? "was" : "were"} not delivered and ` +
          `${becameLetters(died)}: see sendq list --dead`,
      );
    }
    if (refusedPackets > 0) {
      log.error(
        `the server refused ${formatPackets(refusedPackets)}, which ` +
          `${becameLetters(refusedPackets)} with its words: see sendq list --dead`,
      );
    }
  }
}

function becameLetters(packets: number): string {
  return packets === 1 ? "is a dead letter" : "are dead letters";
}

/** Calls back at an interval of any length, unlike `setInterval`. Returns the end of it. */
export function every(intervalMs: number, callback: () => void): () => void {
  let cancel = () => {};
  const next = () => {
    cancel = systemClock.setTimer(intervalMs, () => {
      next();
      callback();
    });
  };
  next();
  return () => cancel();
}

/** The next start finds it so, too. */
function isCorrupt(error: unknown): boolean {
  return error instanceof QueueFileError && error.reason === "corrupt";
}

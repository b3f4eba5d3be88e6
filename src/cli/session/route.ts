/**
 * One route of a process, from before its sender is open: it may have to wait for the right to
 * send, may lose it, and then waits again. It holds up no other one.
 */

import { restUnlessAborted, unlessAborted } from "../../base/waits.ts";
import { systemClock } from "../../base/clock.ts";
import { FencedError, QueueFileError, QueueLockedError } from "../../base/errors.ts";
import { isLoopback } from "../../kernel/ip_address.ts";
import { isNoAddressOfOurs } from "../../kernel/listen.ts";
import { isOutOfDescriptors } from "../../kernel/wire_error.ts";
import type { ShownSender } from "../../observe/http.ts";
import { isQueueUrl } from "../../postgres/address.ts";
import type { OutboundQueue } from "../../queue/queue.ts";
import { isSpoolAddress } from "../../spool/address.ts";
import { STANDING_BY } from "../../postgres/errors.ts";
import { behindOf, Sender } from "../../sender/sender.ts";
import { asUsageError, deliveryOptionsOf, queueOptionsOf } from "../arguments/options.ts";
import { nameOfQueue, openQueue } from "../arguments/queue_place.ts";
import { ExitCode, exitCodeOf, explain } from "../terminal/exit_code.ts";
import type { RouteLog } from "../terminal/output.ts";
import { senderOptionsOf } from "./sender_options.ts";
import type { SessionPlan } from "./plan.ts";

/** A queue that could not be opened for a reason that may pass is tried again after so long. */
const OPEN_AGAIN_MS = 2000;

/** What a sender was opened for. */
export interface OpenedRoute {
  /** What it does. */
  readonly plan: SessionPlan;
  /** The sender. */
  readonly sender: Sender;
  /** Its log. */
  readonly log: RouteLog;
}

/** How a session came to its end. */
export interface SessionEnd {
  /** What the command ends with for its sake. */
  readonly code: ExitCode;
  /** What has ended it too soon. */
  readonly error?: unknown;
}

/** What a route asks its process for. */
export interface RouteSurroundings {
  /** Aborted when everything is to stop. */
  readonly stopped: AbortSignal;
  /** Resolves when nobody waits for the end any more. */
  readonly hurried: Promise<unknown>;
  /** Runs a session to its end; the route may begin again after what has ended it. */
  readonly deliver: (
    opened: OpenedRoute,
    beginsAgainAfter: (error: unknown) => boolean,
  ) => Promise<SessionEnd>;
  /** Told what went wrong. */
  readonly report: (error: unknown, log: RouteLog) => void;
}

/** One route of a process. */
export class Route {
  /** Its log. */
  readonly log: RouteLog;
  /**
   * Whether it opens beside the others, also later than they, and begins again when it has lost
   * the right to send.
   */
  readonly standsBy: boolean;
  /** Resolves once it sends, stands by, or has failed for the first time. */
  readonly settled: Promise<void>;
  /** Called each time when {@linkcode Route.state} has changed. */
  onChange: () => void = () => {};
  readonly #settle: () => void;
  #plan: SessionPlan;
  #state: ShownSender = {
    tone: "busy",
    headline: "Opening",
    detail: "The queue is being opened.",
  };
  #opened: OpenedRoute | undefined;
  #hasEnded = false;
  /** Why it could not be opened the last time. */
  #failure: { readonly words: string; readonly code: ExitCode } | undefined;
  /** Ends the present attempt to open it. */
  #attempt: AbortController | undefined;

  /**
   * @param plan What to do.
   * @param log Its log.
   * @param standsBy Whether it is one of several; see {@linkcode Route.standsBy}.
   */
  constructor(plan: SessionPlan, log: RouteLog, standsBy: boolean) {
    this.#plan = plan;
    this.log = log;
    this.standsBy = standsBy;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.settled = promise;
    this.#settle = resolve;
  }

  /** What it does, as it was read last. */
  get plan(): SessionPlan {
    return this.#plan;
  }

  /** Its sender; why there is none; or what is waited for. */
  get state(): ShownSender {
    return this.#state;
  }

  /** Whether it does nothing any more, and begins no more. */
  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** Its sender, also one that has ended; undefined: there is none yet. */
  get sender(): Sender | undefined {
    return this.#opened?.sender;
  }

  /**
   * Opens its queue and takes the right to send, before anything else is done. What is read
   * anew meanwhile begins the wait for that right anew.
   *
   * @param onStandBy Called when another sender is waited for.
   * @param until What ends such a wait; undefined: it is a queue that nobody waits for.
   * @returns Whether it is open; if not, everything was to stop before.
   */
  async openFirst(
    onStandBy: (words: string) => void,
    until?: Pick<RouteSurroundings, "stopped" | "hurried">,
  ): Promise<boolean> {
    for (;;) {
      const attempt = this.#attempt = new AbortController();
      const signal = until && AbortSignal.any([until.stopped, attempt.signal]);
      try {
        const opening = this.#open(onStandBy, signal);
        await (until === undefined ? opening : Promise.race([opening, until.hurried]));
        return this.#opened !== undefined;
      } catch (error) {
        if (until?.stopped.aborted) return false;
        if (attempt.signal.aborted) continue;
        this.#enter(new Error(explain(error)));
        throw error;
      }
    }
  }

  /**
   * Delivers, once it may, until everything is to stop. One that loses the right to send waits
   * for it again; only a failure that does not pass ends it before.
   */
  async run(surroundings: RouteSurroundings): Promise<ExitCode> {
    try {
      return await this.#run(surroundings);
    } finally {
      this.#hasEnded = true;
    }
  }

  async #run(surroundings: RouteSurroundings): Promise<ExitCode> {
    for (;;) {
      if (this.#opened === undefined) {
        const code = await this.#openInTime(surroundings);
        if (code !== undefined) return code;
        continue;
      }
      const beginsAgainAfter = (error: unknown) => this.#beginsAgainAfter(error, surroundings);
      const { code, error } = await surroundings.deliver(this.#opened, beginsAgainAfter);
      if (!beginsAgainAfter(error)) return code;
      this.#opened = undefined;
      this.#enter({ tone: "busy", headline: "Starting again", detail: explain(error) });
    }
  }

  /** Gives it what was read anew: at once where it sends, else when it begins. */
  reconfigure(plan: SessionPlan): void {
    this.#plan = plan;
    if (this.#opened === undefined) this.#attempt?.abort();
    else this.#reconfigureSender();
  }

  /** Ends its sender without delivering any more. */
  async abandon(): Promise<void> {
    await this.#opened?.sender.close({ deliverTimeoutMs: 0 });
  }

  async #open(onStandBy: (words: string) => void, signal?: AbortSignal): Promise<void> {
    const plan = this.#plan;
    const sender = await openSender(plan, this.log, onStandBy, signal);
    this.#opened = { plan, sender, log: this.log };
    this.#failure = undefined;
    // What was read anew meanwhile.
    if (plan !== this.#plan) this.#reconfigureSender();
    this.#enter(sender);
  }

  #reconfigureSender(): void {
    if (this.#opened === undefined) return;
    // Also where nothing has changed in the file: secrets are read anew.
    behindOf(this.#opened.sender).reconfigure(senderOptionsOf(this.#plan));
  }

  /** Tries until it is open. Returns the exit code where it will not be. */
  async #openInTime(
    { stopped, hurried, report }: RouteSurroundings,
  ): Promise<ExitCode | undefined> {
    while (!stopped.aborted) {
      const attempt = this.#attempt = new AbortController();
      const signal = AbortSignal.any([stopped, attempt.signal]);
      try {
        // A database that is away is asked for longer than somebody in a hurry waits.
        await Promise.race([this.#open((words) => this.#standBy(words), signal), hurried]);
        if (this.#opened !== undefined) return undefined;
      } catch (error) {
        if (signal.aborted) continue;
        const words = explain(error);
        const isTriedAgain = mayPass(error);
        if (words !== this.#failure?.words) {
          report(error, this.log);
          if (isTriedAgain) {
            this.log.info(`not started, and tried again every ${OPEN_AGAIN_MS / 1000} s`);
          }
        }
        this.#failure = { words, code: exitCodeOf(error) };
        if (!isTriedAgain) {
          this.#enter(new Error(words));
          return this.#failure.code;
        }
        const detail = `${words.replace(/\.$/, "")}. It is tried again.`;
        this.#enter({ tone: "bad", headline: "Not started", detail });
        await restUnlessAborted(systemClock, OPEN_AGAIN_MS, signal);
      }
    }
    if (this.#failure !== undefined) return this.#failure.code;
    // Who stands by when everything is to stop has nothing to finish.
    if (isQueueUrl(this.#plan.options.queue)) return ExitCode.DONE;
    this.log.warn("stopped before its queue was open: the next start delivers what is in it");
    return ExitCode.PACKETS_KEPT;
  }

  #standBy(words: string): void {
    this.#failure = undefined;
    this.#enter(
      words.startsWith(STANDING_BY)
        ? { tone: "idle", headline: "Standing by", detail: words.slice(STANDING_BY.length) }
        : { tone: "bad", headline: "Cannot take over", detail: words },
    );
  }

  #beginsAgainAfter(error: unknown, { stopped }: RouteSurroundings): boolean {
    return error instanceof FencedError && !stopped.aborted && this.standsBy;
  }

  #enter(state: ShownSender): void {
    this.#state = state;
    this.#settle();
    this.onChange();
  }
}

async function openSender(
  { remote, options, acquire }: SessionPlan,
  log: RouteLog,
  onStandBy: (words: string) => void,
  signal: AbortSignal | undefined,
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
      ...isInDatabase || isSpoolAddress(options.queue)
        ? {
          queue: await openedUnlessAborted(
            openQueue(options.queue, queueOptionsOf(options), log, onStandBy),
            signal,
          ),
          closesQueue: true,
        }
        : { queue: options.queue, queueOptions: queueOptionsOf(options) },
      remote,
      logger: log,
      ...(signal === undefined ? {} : { signal }),
    });
    try {
      // While it stands by, clients are to find nobody here, and go to the one that sends.
      if (isInDatabase) await acquireAll();
    } catch (error) {
      // What the sender has ended by is no news beside it.
      await sender.close({ deliverTimeoutMs: 0 }).catch(() => {});
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

/** A database that does not answer holds nobody up who is to stop, or to begin anew. */
async function openedUnlessAborted(
  opening: Promise<OutboundQueue>,
  signal: AbortSignal | undefined,
): Promise<OutboundQueue> {
  try {
    return await unlessAborted(opening, signal);
  } catch (error) {
    void opening.then((queue) => queue.close()).catch(() => {});
    throw error;
  }
}

/** Whether the same may work a little later, without anybody changing the route. */
function mayPass(error: unknown): boolean {
  // The port of a relay may be that of a sender on this host that is about to end.
  if (error instanceof Deno.errors.AddrInUse) return true;
  // At boot IPv6 looks for a second, or longer, whether an address is free; others are leased.
  if (isNoAddressOfOurs(error)) return true;
  // Whatever was to be opened: files of secrets and the addresses of clients, too.
  if (isOutOfDescriptors(error)) return true;
  // Another one was quicker, or has not ended yet: it is waited for.
  if (error instanceof FencedError || error instanceof QueueLockedError) return true;
  return error instanceof QueueFileError &&
    (error.reason === "busy" || error.reason === "io" || error.reason === "disk-full");
}

/** The forwarder: puts an edge's file, the cluster and the loop between them together. */

import { systemClock } from "../base/clock.ts";
import { ClosedError, messageOf, OptionError } from "../base/errors.ts";
import { harmlessLogger } from "../base/logger.ts";
import type { Clock, Logger } from "../base/ports.ts";
import { eachSecond, unlessAborted, within } from "../base/waits.ts";
import { DrainedWaiters } from "../delivery/drained_waiters.ts";
import type { DeliveryStatus, Outage, ToldStatus } from "../delivery/status.ts";
import { requestPermissions } from "../permissions/permissions.ts";
import type { Doorbell } from "../queue/doorbell.ts";
import { OutboundQueue, sendingSideOf } from "../queue/queue.ts";
import type { Tenure } from "../queue/tenure.ts";
import { type Condition, conditionWithoutQueue, withStoring } from "../sender/condition.ts";
import { Ending } from "../sender/ending.ts";
import { watchFiles } from "../sender/file_watch.ts";
import { OutageReporter } from "../sender/outage.ts";
import { StatusHub } from "../sender/status_hub.ts";
import { tellOfQueue } from "../sender/tellings.ts";
import { formatAddress } from "./address.ts";
import { Database } from "./database.ts";
import { EdgeCalls } from "./edge_calls.ts";
import {
  type ForwarderOptions,
  type ForwarderSettings,
  forwarderSettingsOf,
} from "./forwarder_options.ts";
import {
  forwarderCondition,
  forwarderNoticeText,
  type ForwarderState,
  type ForwarderStats,
  type ForwarderStatus,
  type ReadableForwarder,
} from "./forwarder_status.ts";
import { Forwarding } from "./forwarding.ts";

export type { ForwarderOptions } from "./forwarder_options.ts";
export type {
  ForwarderState,
  ForwarderStats,
  ForwarderStatus,
  ReadableForwarder,
} from "./forwarder_status.ts";

/** A file that ends before what was forwarded of it looks like one that was restored. */
const SURVIVES_POWER_LOSS = "must be power-loss for a file that is forwarded: after a power cut " +
  "it could lack packets that the cluster has, and would be refused for good";

/** What a reporter of outages calls a forwarder's states. */
const AS_SENDER: Readonly<Record<ForwarderState, DeliveryStatus["state"]>> = {
  "connecting": "connecting",
  "forwarding": "connected",
  "full": "connected",
  "backing-off": "backing-off",
  "closed": "closed",
};

/** How to close a forwarder. */
export interface ForwarderCloseOptions {
  /**
   * How long forwarding may go on, in milliseconds; `Infinity` until everything is forwarded.
   *
   * @default {5000}
   */
  readonly deliverTimeoutMs?: number;
}

/**
 * Forwards the packets of an edge's file into a queue of a cluster: each once, in their order.
 * Whoever enqueues into the file needs no cluster, and waits for none. A packet leaves the file
 * once the cluster has said that it has it, and what is left of its time to live goes with
 * it. Dead letters stay in the file.
 *
 * Has the file as a sender would: there is one of either. While the cluster cannot be reached,
 * will not take packets or has no room, it waits, says so, and tries again. A file that is not
 * the one that was forwarded so far (`EdgeRefusedError`), is damaged, or was taken away ends it.
 *
 * Needs `--allow-net` for the servers, `--allow-read` and `--allow-write` for the file and its
 * `.lock` file.
 *
 * @category Queue
 * @example
 * ```ts ignore
 * import { OutboundQueue } from "@sendq/sendq";
 * import { Forwarder } from "@sendq/sendq/postgres";
 *
 * await using queue = await OutboundQueue.open("outbox.db");
 * await using forwarder = await Forwarder.open(queue, {
 *   url: "postgres://sendq@db1,db2/packets/outbox",
 *   edge: "plant 7",
 *   logger: console,
 * });
 * await queue.enqueue("temperature 21.5\n"); // on this machine's disk from here on
 * await forwarder.drained(); // in the cluster from here on
 * ```
 */
export class Forwarder implements ReadableForwarder, AsyncDisposable {
  /** The edge's file. */
  readonly queue: OutboundQueue;
  /** What people call the edge. */
  readonly edge: string;
  /** The cluster's queue: its address without a password. */
  readonly to: string;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #outages: OutageReporter;
  readonly #hub = new StatusHub<ForwarderStatus>();
  readonly #forwarding: Forwarding;
  readonly #ending: Ending;
  readonly #drainedWaiters = new DrainedWaiters();
  #state: ForwarderState = "connecting";
  readonly #counts = {
    ...{ forwardedPackets: 0, forwardedBytes: 0, beginnings: 0, failures: 0 },
    answeredAtMs: undefined as number | undefined,
  };

  private constructor(parts: ForwarderParts) {
    const { queue, clock, settings, tenure, held, logger, database } = parts;
    this.queue = queue;
    this.edge = settings.edge ?? queue.path;
    this.to = formatAddress(settings.address);
    const sending = sendingSideOf(queue);
    this.#clock = clock;
    this.#logger = logger;
    this.#outages = new OutageReporter({
      clock,
      queue,
      confirmedPackets: () => this.#counts.forwardedPackets,
      tell: (status) => this.#tell(status),
    });
    const answered = () => this.#counts.answeredAtMs = clock.wallMs();
    this.#forwarding = new Forwarding({
      ...{ queue, clock, edge: this.edge, asNew: settings.asNew, maxBytes: settings.maxBytes },
      sending,
      calls: new EdgeCalls({
        ...{ database, path: this.to, edge: this.edge, name: settings.address.name, clock },
        durability: settings.durability,
        maxPackets: settings.maxPackets,
        maxBytes: settings.maxBytes,
      }),
      random: parts.random,
      settled: () => doorbell ??= sending.answerDoorbell(tenure),
      events: {
        connecting: () => this.#become("connecting", "debug", `asks ${this.to} what it has`),
        connected: () => {
          this.#counts.beginnings++;
          answered();
          this.#become("forwarding", "info", `forwards to ${this.to} as edge ${this.edge}`);
          this.#afterProgress();
        },
        failed: (error) => {
          this.#counts.failures++;
          this.#become("backing-off", "warn", messageOf(error), error);
        },
        answered,
        full: () => {
          answered();
          if (this.#state === "full") return;
          this.#state = "full";
          this.#mention(
            "warn",
            `the queue ${this.to} is full: packets wait in ${queue.path} until there is room`,
          );
        },
        forwarded: (packets, bytes) => {
          this.#counts.forwardedPackets += packets;
          this.#counts.forwardedBytes += bytes;
          answered();
          if (this.#state === "full") {
            this.#state = "forwarding";
            this.#mention("info", `there is room in ${this.to} again`);
          }
          this.#afterProgress();
        },
        idle: () => {
          if (this.#state === "full") this.#state = "forwarding";
          this.#afterProgress();
        },
        warn: (words) => this.#mention("warn", words),
      },
    });
    held.defer(() => this.#hub.close());
    let doorbell: Doorbell | undefined;
    held.defer(() => doorbell?.stop());
    held.defer(() => this.#outages.stop());
    // Before the first answer of the cluster, which may make removals: on a full disk, too.
    held.defer(sending.useSpareSpace(tenure.spare));
    const wake = () => this.#forwarding.wake();
    held.defer(sending.subscribe(wake, wake));
    held.defer(tellOfQueue(queue, {
      clock,
      name: "the queue's file",
      tell: (level, words) => this.#mention(level, words),
    }));
    held.defer(queue.subscribeDead(() => this.#afterProgress()));
    held.defer(queue.subscribeDropped(() => this.#afterProgress()));
    held.defer(watchFiles(queue, tenure, clock, ({ error, which }) => {
      this.#ending.oust(error);
      this.#mention("error", error.message, error);
      // Packets in a file without a name are nobody else's to forward.
      if (which === "queue") this.#forwarding.drain();
      else this.#forwarding.stop();
    }));
    const publish = this.#publisher(tenure);
    held.defer(eachSecond(clock, publish));
    held.defer(() => {
      this.#become("closed", "debug", "closed");
      this.#afterProgress();
      this.#drainedWaiters.rejectAll();
    });
    this.#ending = new Ending({
      running: this.#forwarding.run(),
      stop: async (deliverTimeoutMs) => {
        this.#forwarding.drain();
        if (deliverTimeoutMs > 0) await within(deliverTimeoutMs, this.#ending.finished, clock);
        this.#forwarding.stop();
      },
      held,
    });
    publish();
  }

  /** What tells other processes how it stands, where that has changed. */
  #publisher(tenure: Tenure): () => void {
    const startedAtMs = this.#clock.wallMs();
    let published = "";
    return () => {
      const { edge, to, state, condition } = this;
      const { through = null, forwardedPackets } = this.stats();
      const text = forwarderNoticeText({
        ...{ startedAtMs, edge, to, state, condition, through, forwardedPackets },
      });
      try {
        if (text !== published) tenure.publish(text);
        published = text;
      } catch {
        // The disk is full. Forwarding goes on, and so does the next attempt.
        published = "";
      }
    };
  }

  /**
   * Opens the file, takes the exclusive right to send from it, and begins to forward; whether
   * the cluster can be reached, `status()` tells. Asks for all permissions at once: at a terminal
   * by Deno's own questions, elsewhere by an error.
   *
   * @param queue The edge's file, which is made where there is none, or a queue in a file that
   *   is open already.
   * @param options Where to, and what differs from the defaults.
   * @throws {OptionError} An option is out of range, or the queue is no file, or one that was
   *   opened with `durability: "process-crash"`.
   * @throws {QueueFileError} The file cannot be used as a queue.
   * @throws {QueueLockedError} A sender or another forwarder has it.
   * @throws {Deno.errors.NotCapable} Permissions are missing; the message has every flag.
   */
  static async open(queue: string | OutboundQueue, options: ForwarderOptions): Promise<Forwarder> {
    const settings = forwarderSettingsOf(options);
    const { clock = systemClock, random = Math.random, queueOptions } = options;
    const ownsQueue = typeof queue === "string";
    if (!ownsQueue && queueOptions !== undefined) {
      throw new OptionError("queueOptions", null, "must not be given beside a queue that is open");
    }
    if (!ownsQueue && sendingSideOf(queue).edge === undefined) {
      throw new OptionError("queue", queue.path, "must be a file: a cluster forwards nothing");
    }
    const durability = ownsQueue ? queueOptions?.durability : sendingSideOf(queue).durability;
    if (durability === "process-crash") {
      throw new OptionError("queueOptions.durability", durability, SURVIVES_POWER_LOSS);
    }
    requestPermissions({
      databases: settings.address.hosts,
      queues: [ownsQueue ? queue : queue.path],
    });
    const opened = ownsQueue ? await OutboundQueue.open(queue, { clock, ...queueOptions }) : queue;
    const sending = sendingSideOf(opened);
    // Given back from the last to the first, whichever of them fails: a tenure that nobody
    // gives back keeps every other forwarder out.
    const held = new AsyncDisposableStack();
    let tenure: Tenure | undefined;
    let ending: Ending | undefined;
    held.defer(() => tenure?.release());
    if (ownsQueue) held.defer(() => sending.close(ending?.failure));
    try {
      tenure = await sending.takeTenure(clock);
      const database = new Database({
        address: settings.address,
        // Connections take real time, whatever the queue goes by.
        clock: systemClock,
        answerTimeoutMs: settings.answerTimeoutMs,
        waitsForStandby: settings.durability === "machine-loss",
      });
      const logger = harmlessLogger(options.logger);
      const parts = { queue: opened, held, tenure, database, settings, clock, random, logger };
      const forwarder = new Forwarder(parts);
      ending = forwarder.#ending;
      return forwarder;
    } catch (error) {
      await held.disposeAsync().catch(() => {});
      throw error;
    }
  }

  /** What it is doing. */
  get state(): ForwarderState {
    return this.#state;
  }

  /** The same in words, for a person. */
  get condition(): Condition {
    const { state } = this;
    const { packets, storeFailure } = this.queue.stats();
    const forwarding = forwarderCondition(this, packets);
    return conditionWithoutQueue(state, this.#ending.ousted) ??
      (state === "closed" ? forwarding : withStoring(storeFailure, forwarding));
  }

  /** Why the queue was taken away, in words; undefined: it was not. */
  get queueFailure(): string | undefined {
    return this.#ending.ousted?.message;
  }

  /** The present outage; undefined while packets get through, or there are none. */
  get outage(): Outage | undefined {
    return this.#outages.outage;
  }

  /** How things stand. */
  stats(): ForwarderStats {
    return {
      through: this.#forwarding.through,
      ...this.#counts,
      queue: this.queue.stats(),
    };
  }

  /**
   * Every change from now on, the present state first. A listener that falls 256 behind loses the
   * oldest.
   */
  status(): AsyncIterableIterator<ForwarderStatus> {
    const first = this.#statusOf({
      ...{ words: this.#state, level: "debug", error: undefined, failure: false },
      outage: this.outage,
    });
    return this.#hub.listen(first, ({ error }) => this.#ending.tell(error));
  }

  /**
   * Resolves once every packet that is in the file now has left it: it is in the cluster, or a
   * dead letter.
   *
   * @param signal Ends the wait.
   * @throws {ClosedError} The forwarder was closed before; where an error has ended it, that
   *   error.
   */
  async drained(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    const ended = this.#ending.rejection;
    if (ended !== undefined) return await ended;
    const throughId = this.queue.lastId;
    if (this.queue.removedThroughId >= throughId) return;
    try {
      if (this.#state !== "closed") return await this.#drainedWaiters.wait(throughId, signal);
    } catch (error) {
      if (!(error instanceof ClosedError)) throw error;
    }
    // What has closed it says more than that it is closed.
    await unlessAborted(this.closed, signal);
    throw new ClosedError("The forwarder was closed before all packets were forwarded.");
  }

  #afterProgress(): void {
    const { removedThroughId } = this.queue;
    this.#drainedWaiters.resolve((throughId) => removedThroughId >= throughId);
  }

  /**
   * Resolves when the forwarder has ended, by {@linkcode Forwarder.close}; rejects if it cannot
   * go on. What is stored stays stored.
   */
  get closed(): Promise<void> {
    return this.#ending.closed(this.#ending.finished);
  }

  /**
   * Forwards what it can until the deadline. What is not forwarded stays in the file for the
   * next start. Idempotent; a second call may shorten the deadline.
   *
   * @throws {OptionError} It is out of range.
   * @throws {Error} What has ended the forwarder, where it was an error.
   */
  close(options: ForwarderCloseOptions = {}): Promise<void> {
    return this.#ending.close(options);
  }

  /** The same with the default; but throws no error that the user was told before. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#ending.dispose();
  }

  #become(state: ForwarderState, level: keyof Logger, words: string, error?: Error): void {
    this.#state = state;
    this.#outages.take(this.#asDelivery(level, words, error));
  }

  #mention(level: keyof Logger, words: string, error?: Error): void {
    this.#outages.mention(this.#asDelivery(level, words, error));
  }

  #asDelivery(level: keyof Logger, words: string, error: Error | undefined): DeliveryStatus {
    return { state: AS_SENDER[this.#state], verdict: { kind: "healthy" }, words, level, error };
  }

  #tell({ level, words, error, failure, outage }: ToldStatus): void {
    this.#logger[level](words);
    this.#hub.publish(this.#statusOf({ level, words, error, failure, outage }));
  }

  #statusOf(
    status: Omit<ForwarderStatus, "state" | "atMs" | "stats">,
  ): ForwarderStatus {
    return { state: this.#state, ...status, atMs: this.#clock.wallMs(), stats: this.stats() };
  }
}

interface ForwarderParts {
  readonly queue: OutboundQueue;
  /** What is given back with it, by whoever makes it where that fails. */
  readonly held: AsyncDisposableStack;
  readonly tenure: Tenure;
  readonly database: Database;
  readonly settings: ForwarderSettings;
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
}

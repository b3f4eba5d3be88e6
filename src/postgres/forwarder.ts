/**
 * The forwarder: packets of an edge go into a file of its own first, and from there into a
 * queue of the cluster. Composes the file, the cluster and the loop between them.
 *
 * @module
 */

import { systemClock } from "../base/clock.ts";
import { ClosedError, messageOf, OptionError } from "../base/errors.ts";
import { harmlessLogger } from "../base/logger.ts";
import { CLOSE_OPTIONS } from "../base/option_table.ts";
import { resolveOptions } from "../base/options.ts";
import type { Clock, Logger } from "../base/ports.ts";
import { onAbort } from "../base/waits.ts";
import type { DeliveryStatus, Outage, ToldStatus } from "../delivery/status.ts";
import { requestPermissions } from "../permissions/permissions.ts";
import type { Doorbell } from "../queue/doorbell.ts";
import { OutboundQueue, sendingSideOf } from "../queue/queue.ts";
import type { SendingSide } from "../queue/sending_side.ts";
import type { Tenure } from "../queue/tenure.ts";
import { type Condition, conditionWithoutQueue, withStoring } from "../sender/condition.ts";
import { watchFiles } from "../sender/file_watch.ts";
import { OutageReporter } from "../sender/outage.ts";
import { StatusHub } from "../sender/status_hub.ts";
import { storingTeller, Tellings, wordsForDead, wordsForDropped } from "../sender/tellings.ts";
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

/** What other processes read is written this often, where it has changed. */
const NOTICE_MS = 1000;

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
 * will not take packets or has no room, it waits, says so, and tries again. What ends it is
 * what a person has to see to: a file that is not the one that was forwarded so far
 * (`EdgeRefusedError`), is damaged, or was taken away.
 *
 * Needs `--allow-net` for the servers of the cluster, `--allow-read` and `--allow-write` for
 * the file and its `.lock` file.
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
  readonly #ownsQueue: boolean;
  readonly #sending: SendingSide;
  readonly #tenure: Tenure;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #outages: OutageReporter;
  readonly #hub = new StatusHub<ForwarderStatus>();
  readonly #tellings = new Tellings();
  readonly #forwarding: Forwarding;
  readonly #untilClosed = new DisposableStack();
  readonly #ended: Promise<void>;
  #closed: Promise<void> | undefined;
  #doorbell: Doorbell | undefined;
  #state: ForwarderState = "connecting";
  #ousted: Error | undefined;
  #failure: { readonly error: unknown } | undefined;
  #releasing: Promise<void> | undefined;
  #drainWaiters: { readonly throughId: number; readonly resolve: () => void }[] = [];
  #forwardedPackets = 0;
  #forwardedBytes = 0;
  #beginnings = 0;
  #failures = 0;
  #answeredAtMs: number | undefined;
  #cancelNotice = () => {};

  private constructor(parts: ForwarderParts) {
    const { queue, clock, settings, tenure, logger, database } = parts;
    this.queue = queue;
    this.edge = settings.edge ?? queue.path;
    this.to = formatAddress(settings.address);
    this.#ownsQueue = parts.ownsQueue;
    this.#sending = sendingSideOf(queue);
    this.#tenure = tenure;
    this.#clock = clock;
    this.#logger = logger;
    this.#outages = new OutageReporter({
      clock,
      progress: () => ({
        removedThroughId: queue.removedThroughId,
        queuedPackets: queue.stats().packets,
      }),
      tell: (status) => this.#tell(status),
    });
    this.#forwarding = new Forwarding({
      ...{ queue, clock, edge: this.edge, asNew: settings.asNew, maxBytes: settings.maxBytes },
      sending: this.#sending,
      calls: new EdgeCalls({
        ...{ database, path: this.to, edge: this.edge, name: settings.address.name, clock },
        durability: settings.durability,
        maxPackets: settings.maxPackets,
        maxBytes: settings.maxBytes,
      }),
      random: parts.random,
      settled: () => this.#doorbell ??= this.#sending.answerDoorbell(tenure),
      events: {
        connecting: () => this.#become("connecting", "debug", `asks ${this.to} what it has`),
        connected: () => {
          this.#beginnings++;
          this.#answeredAtMs = clock.wallMs();
          this.#become("forwarding", "info", `forwards to ${this.to} as edge ${this.edge}`);
          this.#afterProgress();
        },
        failed: (error) => {
          this.#failures++;
          this.#become("backing-off", "warn", messageOf(error), error);
        },
        answered: () => this.#answeredAtMs = clock.wallMs(),
        full: () => {
          this.#answeredAtMs = clock.wallMs();
          if (this.#state === "full") return;
          this.#state = "full";
          this.#mention(
            `the queue ${this.to} is full: packets wait in ${queue.path} until there is room`,
          );
        },
        forwarded: (packets, bytes) => {
          this.#forwardedPackets += packets;
          this.#forwardedBytes += bytes;
          this.#answeredAtMs = clock.wallMs();
          if (this.#state === "full") {
            this.#state = "forwarding";
            this.#mention(`there is room in ${this.to} again`, "info");
          }
          this.#afterProgress();
        },
        idle: () => {
          if (this.#state === "full") this.#state = "forwarding";
          this.#afterProgress();
        },
        warn: (words) => this.#mention(words),
      },
    });
    this.#watch();
    this.#publish(clock.wallMs(), "");
    this.#ended = this.#forwarding.run().then(() => {
      if (this.#ousted !== undefined) throw this.#ousted;
    });
    this.#ended.catch((error) => this.#failure = { error });
    this.#ended.finally(() => this.#release()).catch(() => {});
  }

  #watch(): void {
    const { queue } = this;
    const stack = this.#untilClosed;
    // Before the first answer of the cluster, which may make removals: on a full disk, too.
    stack.defer(this.#sending.useSpareSpace(this.#tenure.spare));
    stack.defer(this.#sending.subscribe(() => this.#forwarding.wake()));
    stack.defer(queue.subscribeDead((dead) => {
      this.#mention(wordsForDead(dead));
      this.#afterProgress();
    }));
    stack.defer(this.#sending.subscribeStoring(
      storingTeller(this.#clock, (level, words) => this.#mention(words, level)),
    ));
    stack.defer(queue.subscribeDropped((dropped) => {
      this.#mention(wordsForDropped(dropped));
      this.#afterProgress();
    }));
    stack.defer(this.#sending.subscribePollFailures((failure) => {
      this.#mention(
        failure === undefined
          ? "the queue's file can be read again"
          : `the queue's file cannot be looked at for other processes' packets: ${
            messageOf(failure)
          }`,
      );
    }));
    stack.defer(watchFiles(queue, this.#tenure, this.#clock, ({ error, which }) => {
      this.#ousted = error;
      this.#mention(error.message, "error", error);
      // Packets in a file without a name are nobody else's to forward.
      if (which === "queue") this.#forwarding.drain();
      else this.#forwarding.stop();
    }));
  }

  /** Tells other processes how it stands, again and again. */
  #publish(startedAtMs: number, before: string): void {
    const { edge, to, state, condition } = this;
    const { through = null, forwardedPackets } = this.stats();
    let text = forwarderNoticeText({
      ...{ startedAtMs, edge, to, state, condition, through, forwardedPackets },
    });
    try {
      if (text !== before) this.#tenure.publish(text);
    } catch {
      // The disk is full. Forwarding goes on, and so does the next attempt.
      text = "";
    }
    this.#cancelNotice = this.#clock.setTimer(
      NOTICE_MS,
      () => this.#publish(startedAtMs, text),
    );
  }

  /**
   * Opens the file, takes the exclusive right to send from it, and begins to forward. Does not
   * wait for the cluster: whether that can be reached, `status()` tells. Asks for all
   * permissions at once: at a terminal by Deno's own questions, elsewhere by an error.
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
    try {
      const tenure = await sendingSideOf(opened).takeTenure(clock);
      const database = new Database({
        address: settings.address,
        // Connections take real time, whatever the queue goes by.
        clock: systemClock,
        answerTimeoutMs: settings.answerTimeoutMs,
        waitsForStandby: settings.durability === "machine-loss",
      });
      const logger = harmlessLogger(options.logger);
      const parts = { queue: opened, ownsQueue, tenure, database, settings, clock, random, logger };
      return new Forwarder(parts);
    } catch (error) {
      if (ownsQueue) await opened.close();
      throw error;
    }
  }

  /** What it is doing. */
  get state(): ForwarderState {
    return this.#state;
  }

  /** The same in words, for a person. */
  get condition(): Condition {
    const { state, outage, to } = this;
    const { packets: queuedPackets, storeFailure } = this.queue.stats();
    const forwarding = forwarderCondition({ state, outage, to, queuedPackets });
    return conditionWithoutQueue(state, this.#ousted) ??
      (state === "closed" ? forwarding : withStoring(storeFailure, forwarding));
  }

  /** Why the queue was taken away, in words; undefined: it was not. */
  get queueFailure(): string | undefined {
    return this.#ousted?.message;
  }

  /** The present outage; undefined while packets get through, or there are none. */
  get outage(): Outage | undefined {
    return this.#outages.outage;
  }

  /** How things stand. */
  stats(): ForwarderStats {
    return {
      through: this.#forwarding.through,
      forwardedPackets: this.#forwardedPackets,
      forwardedBytes: this.#forwardedBytes,
      beginnings: this.#beginnings,
      failures: this.#failures,
      answeredAtMs: this.#answeredAtMs,
      queue: this.queue.stats(),
    };
  }

  /**
   * Every change from now on, the present state first. A listener that falls 256 behind loses
   * the oldest.
   */
  status(): AsyncIterableIterator<ForwarderStatus> {
    const first = this.#statusOf({
      ...{ words: this.#state, level: "debug", error: undefined, failure: false },
      outage: this.outage,
    });
    return this.#hub.listen(first, ({ error }) => this.#tellings.tell(error));
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
    if (this.#failure !== undefined) throw this.#tellings.tell(this.#failure.error);
    const throughId = this.queue.lastId;
    if (this.queue.removedThroughId >= throughId) return;
    const waiting = Promise.withResolvers<void>();
    this.#drainWaiters.push({ throughId, resolve: waiting.resolve });
    const aborted = Promise.withResolvers<never>();
    const forget = onAbort(signal, () => aborted.reject(signal?.reason));
    try {
      const ended = this.closed.then(() => {
        if (this.queue.removedThroughId >= throughId) return;
        throw new ClosedError("The forwarder was closed before all packets were forwarded.");
      });
      await Promise.race([waiting.promise, aborted.promise, ended]);
    } finally {
      forget();
      this.#drainWaiters = this.#drainWaiters.filter(({ resolve }) => resolve !== waiting.resolve);
    }
  }

  #afterProgress(): void {
    const { removedThroughId } = this.queue;
    for (const { throughId, resolve } of this.#drainWaiters) {
      if (removedThroughId >= throughId) resolve();
    }
  }

  /**
   * Resolves when the forwarder has ended, by {@linkcode Forwarder.close}; rejects if it cannot
   * go on. What is stored stays stored.
   */
  get closed(): Promise<void> {
    if (this.#closed === undefined) {
      this.#closed = this.#ended.finally(() => this.#release()).catch((error) => {
        throw this.#tellings.tell(error);
      });
      // Whoever waits for the end is told; nobody has to.
      this.#closed.catch(() => {});
    }
    return this.#closed;
  }

  /**
   * Forwards what it can until the deadline. What is not forwarded stays in the file for the
   * next start. Idempotent; a second call may shorten the deadline.
   *
   * @param options The deadline.
   * @throws {OptionError} It is out of range.
   * @throws {Error} What has ended the forwarder, where it was an error.
   */
  async close(options: ForwarderCloseOptions = {}): Promise<void> {
    const { deliverTimeoutMs } = resolveOptions(CLOSE_OPTIONS, options);
    try {
      await this.#end(deliverTimeoutMs);
    } catch (error) {
      throw this.#tellings.tell(error);
    }
  }

  /** The same as {@linkcode Forwarder.close}; but throws no error that the user was told before. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.#end(CLOSE_OPTIONS.deliverTimeoutMs.default);
    } catch (error) {
      if (!this.#tellings.knows(error)) throw this.#tellings.tell(error);
    }
  }

  async #end(deliverTimeoutMs: number): Promise<void> {
    this.#forwarding.drain();
    if (deliverTimeoutMs === 0) this.#forwarding.stop();
    const cancel = deliverTimeoutMs === Infinity
      ? () => {}
      : this.#clock.setTimer(deliverTimeoutMs, () => this.#forwarding.stop());
    try {
      await this.#ended.finally(() => this.#release());
    } finally {
      cancel();
    }
  }

  #release(): Promise<void> {
    this.#releasing ??= (async () => {
      this.#become("closed", "debug", "closed");
      this.#untilClosed.dispose();
      this.#cancelNotice();
      this.#outages.stop();
      try {
        await this.#doorbell?.stop();
        this.#hub.close();
        if (this.#ownsQueue) await this.#sending.close(this.#failure?.error);
      } finally {
        // However that goes: a tenure that nobody gives back keeps every other forwarder out.
        await this.#tenure.release();
      }
    })();
    return this.#releasing;
  }

  #become(
    state: ForwarderState,
    level: keyof Logger,
    words: string,
    error?: Error,
  ): void {
    this.#state = state;
    this.#outages.take(asDelivery({ state, level, words, error }));
  }

  #mention(words: string, level: keyof Logger = "warn", error?: Error): void {
    this.#outages.mention(asDelivery({ state: this.#state, level, words, error }));
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

function asDelivery(
  { state, level, words, error }: {
    readonly state: ForwarderState;
    readonly level: keyof Logger;
    readonly words: string;
    readonly error: Error | undefined;
  },
): DeliveryStatus {
  return { state: AS_SENDER[state], verdict: { kind: "healthy" }, words, level, error };
}

interface ForwarderParts {
  readonly queue: OutboundQueue;
  readonly ownsQueue: boolean;
  readonly tenure: Tenure;
  readonly database: Database;
  readonly settings: ForwarderSettings;
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
}

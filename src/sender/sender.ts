/** The durable sender: puts queue, kernel layer and supervisor together. */

import { systemClock } from "../base/clock.ts";
import { ClosedError } from "../base/errors.ts";
import { harmlessLogger } from "../base/logger.ts";
import type { Clock, Dialer, Logger, Random } from "../base/ports.ts";
import type { QueueStats } from "../base/queue_stats.ts";
import type { Verdict } from "../delivery/liveness.ts";
import type {
  Outage,
  SenderState,
  SenderStats,
  SenderStatus,
  ToldStatus,
} from "../delivery/status.ts";
import { Supervisor } from "../delivery/supervisor.ts";
import { allocator } from "../kernel/allocate.ts";
import { inotify } from "../kernel/inotify.ts";
import { requestPermissions } from "../permissions/permissions.ts";
import { type EnqueueOptions, type IdRange, resolveQueueOptions } from "../queue/options.ts";
import { OutboundQueue, sendingSideOf } from "../queue/queue.ts";
import { describeReserve, type Tenure } from "../queue/tenure.ts";
import { type Condition, conditionOf } from "./condition.ts";
import { Ending } from "./ending.ts";
import { watchFiles } from "./file_watch.ts";
import { Inbox } from "./inbox.ts";
import {
  limitsOf,
  needsOf,
  optionsOf,
  remoteOf,
  type RemoteOption,
  type SenderLimits,
  type SenderOptions,
} from "./options.ts";
import { OutageReporter } from "./outage.ts";
import { dialerFor, openUnder } from "./own_dialer.ts";
import { RateMeter } from "./rate_meter.ts";
import { ReportPublisher } from "./report.ts";
import { StatusHub } from "./status_hub.ts";
import { tellOfQueue } from "./tellings.ts";
import { otherSendersTurn } from "./turns.ts";
import { keepUp } from "./upkeep.ts";
import { writableInto } from "./writable.ts";

/** For what stands between a sender and its user. */
export interface BehindSender {
  /** As `status()`, but what is taken here, the user was not told. */
  statuses(): AsyncIterableIterator<SenderStatus>;
  /** An enqueue was rejected with this error, and the user does not learn it. */
  keptBack(error: unknown): void;
  /**
   * Changes the pace at once, bounds and times from the next connection on, the queue's bounds
   * upwards. What else is given has to be as it was.
   *
   * @throws {OptionError} A value is out of range; nothing was changed.
   */
  reconfigure(options: SenderOptions): void;
  /** How its queue stood before anything was sent, or died. */
  readonly queueAtStart: QueueStats;
}

/** Not a method: who holds a sender shall see what they may call. */
export let behindOf: (sender: Sender) => BehindSender;

/**
 * How to close a {@linkcode Sender}.
 *
 * @category Delivery
 */
export interface CloseOptions {
  /**
   * How long delivery may go on, in milliseconds; `Infinity`: until everything is delivered. The
   * server has up to a second more for its FIN.
   *
   * @default {5000}
   */
  readonly deliverTimeoutMs?: number;
}

/**
 * Sends packets to a TCP server, in order, at least once: once {@linkcode Sender.enqueue}
 * resolves, the packet is on disk, and it stays there until the server's kernel has acknowledged
 * every byte of it. Needs the permissions that the module names.
 *
 * An error that ends it for good, such as a damaged file, is thrown by whatever is asked of it
 * next, `enqueue`, `drained`, `close` or `closed`, or comes with `status`. Where `await using`
 * ends a sender whose error nobody was told, it throws that error, and else none.
 *
 * @category Delivery
 * @example
 * ```ts ignore
 * import { Sender } from "@sendq/sendq";
 *
 * await using sender = await Sender.open("outbox.db", "tcp://legacy:4000", { logger: console });
 * await sender.enqueue("temperature 21.5\n");
 * ```
 */
export class Sender implements AsyncDisposable {
  static {
    behindOf = (sender) => ({
      statuses: () => sender.#statuses(() => {}),
      keptBack: (error) => sender.#ending.keptBack(error),
      reconfigure: (options) => {
        const limits = limitsOf(options);
        const bounds = resolveQueueOptions(options.queueOptions ?? {});
        sender.#supervisor.reconfigure(limits);
        sendingSideOf(sender.queue).raiseBounds(bounds);
      },
      queueAtStart: sender.#queueAtStart,
    });
  }

  /** The queue it sends from. */
  readonly queue: OutboundQueue;
  /** Where it delivers to: `"tcp://legacy:4000"`. */
  readonly remote: string;
  readonly #queueAtStart: QueueStats;
  readonly #dialer: Dialer;
  readonly #supervisor: Supervisor;
  readonly #ending: Ending;
  readonly #hub = new StatusHub<SenderStatus>();
  readonly #received: Inbox;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #outages: OutageReporter;
  readonly #meter = new RateMeter();
  readonly #reports: ReportPublisher;
  #queueFailure: string | undefined;
  #toldStatuses = 0;

  private constructor(parts: SenderParts) {
    const { queue, clock, logger, tenure, dialer } = parts;
    const sending = sendingSideOf(queue);
    this.queue = queue;
    this.#queueAtStart = queue.stats();
    this.remote = dialer.remote;
    this.#dialer = dialer;
    this.#clock = clock;
    this.#logger = logger;
    this.#received = new Inbox(parts.limits.receivedBufferBytes);
    this.#outages = new OutageReporter({
      clock,
      queue,
      confirmedPackets: () => this.#supervisor.confirmedPackets,
      tell: (status) => this.#tell(status),
    });
    this.#supervisor = new Supervisor(parts.limits, {
      queue: sending,
      dialer,
      clock,
      random: parts.random,
      // What is worth a line is decided by the reporter of outages.
      onStatus: (status) => this.#outages.take(status),
      onReceived: (chunk) => this.#received.offer(chunk),
    }, sending.sentThroughId);
    // Given back from the last to the first, whichever of them fails: a tenure that nobody
    // gives back keeps every other sender out.
    const held = new AsyncDisposableStack();
    held.defer(() => tenure.release());
    this.#ending = new Ending({
      running: this.#supervisor.closed,
      stop: async (deliverTimeoutMs) => {
        // What was enqueued before belongs to what is delivered, whether or not anybody waits.
        this.#stop(await sending.settledWithin(deliverTimeoutMs, clock));
      },
      held,
    });
    held.defer(sending.subscribeRefused((error) => this.#ending.tell(error)));
    if (parts.closesQueue) held.defer(() => sending.close(this.#ending.failure));
    held.defer(() => {
      this.#hub.close();
      this.#received.close();
    });
    const doorbell = sending.answerDoorbell(tenure, inotify());
    held.defer(() => doorbell.stop());
    logger.debug(`other processes' packets are noticed by ${doorbell.mode}`);
    const reserve = describeReserve(tenure);
    if (reserve !== undefined) logger[reserve.level](reserve.words);
    const again = Math.min(queue.lastId, sending.sentThroughId) - queue.removedThroughId;
    // A file is told behind what was sent, and a database before: there it is the most.
    if (again > 0 && sending.cluster() !== undefined) {
      logger.info(`up to ${again} packets were sent by the sender before, and are sent again`);
    }
    this.#reports = new ReportPublisher({
      remote: this.remote,
      clock,
      read: () => ({
        state: this.state,
        verdict: this.verdict,
        stats: this.#supervisor.stats,
        condition: this.condition,
        outage: this.outage,
        rates: this.rates,
        storeFailure: queue.stats().storeFailure,
      }),
      publish: (text) => tenure.publish(text),
    });
    held.defer(() => {
      this.#outages.stop();
      this.#reports.stop();
    });
    const upkeep = { counters: () => this.#counters(), changes: () => this.#changes() };
    held.defer(keepUp(clock, this.#meter, this.#reports, upkeep));
    held.defer(tenure.subscribeLost((error) => this.#oust(error, 0)));
    // Packets in a file without a name are nobody else's to deliver; those of a lost lock are.
    held.defer(watchFiles(queue, tenure, clock, ({ error, which }) => {
      this.#oust(error, which === "queue" ? Infinity : 0);
    }));
    held.use(parts.untilClosed.move());
    held.defer(tellOfQueue(queue, {
      clock,
      name: "the queue",
      tell: (level, words) => this.#mention(level, words),
      onUnreadable: (why) => this.#queueFailure = why,
    }));
  }

  /**
   * Opens the queue, takes the exclusive right to send from it, waiting for it where it is one
   * on PostgreSQL, and starts delivering. Asks for all permissions at once: at a terminal by
   * Deno's own questions, elsewhere by an error.
   *
   * @param queue The queue's file, which is made where there is none, or a queue that is
   *   open already.
   * @param remote The server: `"tcp://host:port"`, `"tls://host:port"` or its parts; or several.
   * @throws {OptionError} An option is out of range.
   * @throws {TypeError} The remote is not a `tcp://` or `tls://` URL.
   * @throws {UnsupportedPlatformError} Not Linux, or no libc.
   * @throws {QueueFileError} The file cannot be used as a queue.
   * @throws {QueueLockedError} Another sender has it, and is not waited for.
   * @throws {ClosedError} The queue that was given is closed.
   * @throws {Deno.errors.NotCapable} Permissions are missing; the message has every flag.
   */
  static open(
    queue: string | OutboundQueue,
    remote: RemoteOption,
    options?: Omit<SenderOptions, "queue" | "remote">,
  ): Promise<Sender>;
  /** The same with everything in one object. */
  static open(options: SenderOptions): Promise<Sender>;
  static async open(
    first: string | OutboundQueue | SenderOptions,
    second?: RemoteOption,
    rest?: Omit<SenderOptions, "queue" | "remote">,
  ): Promise<Sender> {
    const options = optionsOf(first, second, rest);
    const { queue: given, closesQueue = typeof given === "string" } = options;
    let queue = typeof given === "string" ? undefined : given;
    try {
      const limits = limitsOf(options);
      const remote = remoteOf(options);
      requestPermissions(needsOf(options));
      await otherSendersTurn();
      using untilOpen = new DisposableStack();
      const clock = options.clock ?? systemClock;
      const logger = harmlessLogger(options.logger);
      const random = options.random ?? Math.random;
      const parts = { clock, limits, logger, random, untilClosed: untilOpen };
      const openDialer = await dialerFor(remote, options, limits, parts);
      queue = typeof given === "string"
        ? await OutboundQueue.open(given, { clock, ...options.queueOptions })
        : given;
      const tenure = await sendingSideOf(queue).takeTenure(clock, options.signal, allocator());
      const own = { ...parts, queue, closesQueue, tenure };
      return await openUnder(tenure, openDialer, (dialer) => new Sender({ ...own, dialer }));
    } catch (error) {
      // Whatever it was: who has handed a queue over does not close it.
      if (closesQueue) await queue?.close();
      throw error;
    }
  }

  /**
   * Stores a packet, which goes on the wire byte for byte, behind all earlier ones.
   *
   * @param packet At least 1 byte, free again after the call; a string is stored as UTF-8.
   * @param options `signal` ends a wait for room.
   * @returns Its id, once it is on disk.
   * @throws {PacketSizeError} Empty, or above `maxPacketBytes`.
   * @throws {QueueFullError} A limit is met and `overflow` is `"reject"`.
   * @throws {QueueFileError} The disk is full or failed.
   * @throws {ClosedError} The sender is closed; where an error has ended it, that error.
   */
  enqueue(packet: Uint8Array | string, options?: EnqueueOptions): Promise<number> {
    return this.#rejection ?? this.queue.enqueue(packet, options);
  }

  /**
   * Stores packets in one transaction: all of them, or none; as {@linkcode Sender.enqueue}.
   *
   * @returns The ids of the first and the last; those between are in order.
   */
  enqueueMany(
    packets: readonly (Uint8Array | string)[],
    options?: EnqueueOptions,
  ): Promise<IdRange> {
    return this.#rejection ?? this.queue.enqueueMany(packets, options);
  }

  /**
   * A stream that stores each chunk as one packet, a string as UTF-8. `ready` holds the producer
   * back while 1 MiB waits for the disk; `close()` resolves once all is on disk. A chunk that
   * cannot be stored errors the stream.
   */
  get writable(): WritableStream<Uint8Array | string> {
    return writableInto((packet) => this.enqueue(packet));
  }

  /**
   * What the server sends, across connections, for one reader. Read or not, it never holds up
   * delivery: see `receivedBufferBytes`.
   */
  get received(): ReadableStream<Uint8Array> {
    return this.#received.stream;
  }

  /**
   * Resolves once every packet that is on disk now has drained: its last byte was acknowledged,
   * or, where answers confirm, it was answered.
   *
   * @param signal Ends the wait.
   * @throws {ClosedError} The sender was closed before; where an error has ended it, that
   *   error.
   */
  async drained(signal?: AbortSignal): Promise<void> {
    try {
      await this.#supervisor.drained(signal);
    } catch (error) {
      // What has closed it says more than that it is closed.
      if (error instanceof ClosedError) await this.closed;
      throw error;
    }
  }

  /**
   * Every change of state and verdict from now on, the present one first. A listener that falls
   * 256 behind loses the oldest.
   */
  status(): AsyncIterableIterator<SenderStatus> {
    return this.#statuses(({ error }) => this.#ending.tell(error));
  }

  #statuses(onTaken: (status: SenderStatus) => void): AsyncIterableIterator<SenderStatus> {
    const { state, verdict } = this.#supervisor;
    const { outage } = this;
    const first = this.#statusOf({
      ...{ state, verdict, words: state, level: "debug", error: undefined },
      ...{ failure: false, outage },
    });
    return this.#hub.listen(first, onTaken);
  }

  /** How things stand, without a table scan. */
  stats(): SenderStats {
    const cluster = sendingSideOf(this.queue).cluster();
    return {
      ...this.#supervisor.stats,
      queue: this.queue.stats(),
      receivedBytesDiscarded: this.#received.discardedBytes,
      ...(cluster === undefined ? {} : { cluster }),
    };
  }

  /** State, verdict and outage in words, for a person. */
  get condition(): Condition {
    const { packets: queuedPackets, storeFailure } = this.queue.stats();
    return conditionOf({
      state: this.state,
      verdict: this.verdict,
      outage: this.outage,
      waitsOn: this.#dialer.waits === true ? this.remote : undefined,
      turnedAway: this.#dialer.turnedAway,
      queuedPackets,
      storeFailure,
      rates: this.rates,
      ousted: this.#ending.ousted,
      queueFailure: this.#unreadable,
      cluster: sendingSideOf(this.queue).cluster(),
    });
  }

  /** Why the queue was taken away or cannot be asked for packets, in words; undefined: it can. */
  get queueFailure(): string | undefined {
    return this.#ending.ousted?.message ?? this.#unreadable;
  }

  get #unreadable(): string | undefined {
    return this.#queueFailure ?? this.#supervisor.readFailure;
  }

  /** The present outage; undefined while packets get through, or there are none. */
  get outage(): Outage | undefined {
    return this.#outages.outage;
  }

  /** How fast it goes: over the last three seconds. */
  get rates(): {
    /** Packets stored a second, by this process or another. */
    readonly storedPacketsPerSecond: number;
    /** Packets acknowledged in full a second. */
    readonly drainedPacketsPerSecond: number;
    /** Bytes acknowledged a second. */
    readonly ackedBytesPerSecond: number;
  } {
    return this.#meter.rates(this.#clock.nowMs(), this.#counters());
  }

  /** The last verdict on the path; it stays when the connection is gone. */
  get verdict(): Verdict {
    return this.#supervisor.verdict;
  }

  /** What the sender is doing. */
  get state(): SenderState {
    return this.#supervisor.state;
  }

  /**
   * Resolves when the sender has ended, by {@linkcode Sender.close}; rejects where it cannot go
   * on: the kernel refuses a socket option, the queue's file or its lock file was taken away,
   * another sender has taken over. What is stored stays stored.
   */
  get closed(): Promise<void> {
    return this.#ending.closed(this.#ending.ended);
  }

  /**
   * Delivers what it can of what was enqueued before, until the deadline, half-closes, and waits
   * for the server's FIN: one that closes has read everything, or its kernel would send a reset.
   * What is not confirmed stays on disk. Idempotent; a second call may shorten the deadline.
   *
   * @throws {OptionError} It is out of range.
   * @throws {Error} What has ended the sender, where it was an error.
   */
  close(options: CloseOptions = {}): Promise<void> {
    return this.#ending.close(options);
  }

  /** The same with the default; but throws no error that the user was told before. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#ending.dispose();
  }

  /** Also where the queue stays open: nobody would deliver it. */
  get #rejection(): Promise<never> | undefined {
    const closed = () => Promise.reject(new ClosedError("The sender is closed."));
    return this.#ending.rejection ?? (this.#ending.isOver ? closed() : undefined);
  }

  #stop(deliverTimeoutMs: number): void {
    this.#supervisor.close(deliverTimeoutMs).catch(() => {});
  }

  #oust(error: Error, deliverTimeoutMs: number): void {
    this.#ending.oust(error);
    this.#mention("error", error.message, error);
    this.#stop(deliverTimeoutMs);
  }

  #mention(level: keyof Logger, words: string, error?: Error): void {
    const { state, verdict } = this.#supervisor;
    this.#outages.mention({ state, verdict, words, level, error });
  }

  #tell(status: ToldStatus): void {
    this.#toldStatuses++;
    this.#logger[status.level](status.words);
    this.#reports.take(status);
    this.#hub.publish(this.#statusOf(status));
  }

  /**
   * Grows with each. An outage, a cluster, and who may not connect to where a server is waited for,
   * have something new to say at any time.
   */
  #changes(): number {
    const queue = sendingSideOf(this.queue);
    const mayBeAway = this.state !== "connected" && this.#dialer.turnedAway !== undefined;
    if (this.outage !== undefined || mayBeAway || queue.cluster()) return NaN;
    return this.#supervisor.changes + this.#toldStatuses + queue.changes;
  }

  #counters() {
    const { drainedPackets, ackedBytes } = this.#supervisor.stats;
    return { storedPackets: this.queue.lastId, drainedPackets, ackedBytes };
  }

  #statusOf(status: ToldStatus): SenderStatus {
    return { ...status, atMs: this.#clock.wallMs(), stats: this.stats() };
  }
}

interface SenderParts {
  readonly queue: OutboundQueue;
  readonly closesQueue: boolean;
  readonly tenure: Tenure;
  readonly dialer: Dialer;
  /** What ends with the sender. */
  readonly untilClosed: DisposableStack;
  readonly clock: Clock;
  readonly limits: SenderLimits;
  readonly random: Random;
  readonly logger: Logger;
}

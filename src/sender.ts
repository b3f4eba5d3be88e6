/**
 * The durable sender: composes queue, kernel layer and supervisor, and is the
 * face that users see.
 *
 * @module
 */

import { systemClock } from "./clock.ts";
import type { Verdict } from "./delivery/liveness.ts";
import {
  type DeliveryStats,
  type DeliveryStatus,
  type SenderState,
  Supervisor,
  type SupervisorLimits,
} from "./delivery/supervisor.ts";
import { tcpDialer } from "./kernel/dialer.ts";
import { type SocketOptions, validateSocketOptions } from "./kernel/socket_options.ts";
import type { Clock, Dialer, Logger, Random } from "./ports.ts";
import type { EnqueueOptions, IdRange, QueueOptions, QueueStats } from "./queue/options.ts";
import { OutboundQueue } from "./queue/queue.ts";
import { type Doorbell, SenderLock } from "./queue/sender_lock.ts";
import { parseRemote, type Remote } from "./remote.ts";
import { ReportPublisher } from "./sender_report.ts";
import { StatusHub } from "./status_hub.ts";

/** TCP_USER_TIMEOUT stands this far above every limit of our own: a back-stop must not race. */
const USER_TIMEOUT_MARGIN_MS = 30_000;
/** What `writable` lets wait for its commit before it holds the producer back. */
const WRITABLE_WINDOW_BYTES = 1024 * 1024;

/** How to open a {@linkcode Sender}. */
export interface SenderOptions {
  /**
   * The queue: a path, or one that is open already. A path is opened with
   * {@linkcode SenderOptions.queueOptions} and closed with the sender.
   */
  readonly queue: string | OutboundQueue;
  /** Options for a queue given as a path. */
  readonly queueOptions?: QueueOptions;
  /** The server: `"tcp://host:port"` or its parts. */
  readonly remote: string | Remote;
  /** Socket options; each has its documented default. */
  readonly socket?: SocketOptions;
  /**
   * How long a drained packet stays on disk, in milliseconds. If the connection
   * ends uncleanly within that time, it is sent again. Longer: more duplicates
   * after a reset. Shorter: more loss when a server dies with unread bytes.
   *
   * @default {1000} or a second more than `responseTimeoutMs`
   */
  readonly holdMs?: number;
  /**
   * With bytes outstanding, this long without any acknowledgement means that
   * the path is dead (or twice the round-trip time, if that is longer). Below
   * 2000 lossy paths give false alarms, which cost a reconnect and duplicates.
   *
   * @default {3000}
   */
  readonly stallTimeoutMs?: number;
  /**
   * How long a peer that is alive may keep its window closed before the
   * connection is given up.
   *
   * @default {300000}
   */
  readonly peerStallTimeoutMs?: number;
  /**
   * For a server that always responds to what it gets, sooner or later: this
   * long after bytes were sent without a single byte of response, the connection
   * is given up, and what is not confirmed is sent again. Which packet a response
   * belongs to is not looked at. {@linkcode SenderOptions.holdMs} must be longer,
   * for a packet is confirmed by then.
   *
   * @default {Infinity}
   */
  readonly responseTimeoutMs?: number;
  /**
   * Bytes that may be sent and not acknowledged; also the bound on duplicates
   * after a dead path, beside what is held. A larger packet travels alone.
   * Limits the rate to this many bytes per round trip.
   *
   * @default {262144}
   */
  readonly maxInFlightBytes?: number;
  /**
   * How long one connection attempt may take.
   *
   * @default {1000}
   */
  readonly connectTimeoutMs?: number;
  /**
   * How long every fourth attempt in a row may take, so that a slow path
   * connects too.
   *
   * @default {5000}
   */
  readonly slowConnectTimeoutMs?: number;
  /**
   * The first ceiling of the backoff between attempts; it doubles up to
   * {@linkcode SenderOptions.backoffCapMs}, and chance picks below it.
   *
   * @default {100}
   */
  readonly backoffFirstMs?: number;
  /**
   * The highest ceiling of the backoff. Delivery resumes about this long after
   * a heal; a fleet of senders to one server raises it.
   *
   * @default {1000}
   */
  readonly backoffCapMs?: number;
  /**
   * `"on-demand"` connects when there is something to send, `"always"` keeps
   * a connection up, for servers that speak unasked.
   *
   * @default {"on-demand"}
   */
  readonly connect?: "on-demand" | "always";
  /**
   * What to do when the server closes its side: finish the connection in
   * order and make a new one when needed, or go on sending to a server that
   * is known to half-close.
   *
   * @default {"reconnect"}
   */
  readonly onPeerFin?: "reconnect" | "keep-sending";
  /**
   * What the server sent and nobody read yet; beyond this the newest bytes are
   * discarded and counted, so that they never fill the window.
   *
   * @default {1048576}
   */
  readonly receivedBufferBytes?: number;
  /** Takes log lines: `console`, an `@std/log` logger, LogTape. Silent by default. */
  readonly logger?: Logger;
  /** Time, for tests. */
  readonly clock?: Clock;
  /** Chance, for tests. */
  readonly random?: Random;
  /** Another way to connect; replaces remote's dialing and `socket`. */
  readonly dialer?: Dialer;
}

/** Where a sender stands; counters run since it was opened. */
export interface SenderStats extends DeliveryStats {
  /** What lies on disk. */
  readonly queue: QueueStats;
  /** Bytes that the server sent and that nobody read in time. */
  readonly receivedBytesDiscarded: number;
}

/** One change in a sender's life. */
export interface SenderStatus extends DeliveryStatus {
  /** When, by the wall clock, in milliseconds since 1970. */
  readonly atMs: number;
  /** How things stood then. */
  readonly stats: SenderStats;
}

/** How to close a {@linkcode Sender}. */
export interface CloseOptions {
  /**
   * How long delivery may go on, in milliseconds; `Infinity` until everything
   * is delivered. Up to a second more is given to the server for its FIN.
   *
   * @default {5000}
   */
  readonly drainMs?: number;
}

/**
 * Sends packets to a TCP server, in order, at least once: once
 * {@linkcode Sender.enqueue} resolves, the packet is on disk, and it stays there
 * until the server's kernel has acknowledged every byte of it.
 *
 * Needs `--allow-net` for the server, `--allow-read` and `--allow-write` for the
 * queue's file and its `.lock` file, and `--allow-ffi` for libc.
 *
 * @example
 * ```ts ignore
 * import { Sender } from "@sendq/sendq";
 *
 * await using sender = await Sender.open({
 *   queue: "outbox.db",
 *   remote: "tcp://192.0.2.7:4000",
 *   logger: console,
 * });
 * await sender.enqueue(new TextEncoder().encode("temperature 21.5\n"));
 * ```
 */
export class Sender implements AsyncDisposable {
  /** The queue it sends from. */
  readonly queue: OutboundQueue;
  /** Where it delivers to: `"tcp://legacy:4000"`. */
  readonly remote: string;
  readonly #ownsQueue: boolean;
  readonly #lock: SenderLock;
  readonly #doorbell: Doorbell;
  readonly #supervisor: Supervisor;
  readonly #hub = new StatusHub<SenderStatus>();
  readonly #received: Inbox;
  readonly #clock: Clock;
  readonly #forgetDropped: () => void;
  readonly #reports: ReportPublisher;
  #closing: Promise<void> | undefined;

  private constructor(parts: SenderParts) {
    const { queue, clock, logger } = parts;
    this.queue = queue;
    this.remote = parts.dialer.remote;
    this.#ownsQueue = parts.ownsQueue;
    this.#lock = parts.lock;
    this.#clock = clock;
    this.#received = new Inbox(parts.receivedBufferBytes);
    this.#supervisor = new Supervisor(parts.limits, {
      queue,
      dialer: parts.dialer,
      clock,
      random: parts.random,
      logger,
      onStatus: (status) => this.#publish(status),
      onReceived: (chunk) => this.#received.offer(chunk),
    }, queue.sentThroughAtOpen);
    this.#doorbell = queue.answerDoorbell(parts.lock);
    logger.debug(`other processes' packets are noticed by ${this.#doorbell.mode}`);
    this.#forgetDropped = queue.subscribeDropped(({ packets, bytes }) => {
      const words = `the queue is full: dropped the ${packets} oldest packets (${bytes} bytes)`;
      logger.warn(words);
      const { state, verdict } = this.#supervisor;
      this.#publish({ state, verdict, words, level: "warn", error: undefined });
    });
    this.#reports = new ReportPublisher({
      remote: this.remote,
      clock,
      read: () => ({ state: this.state, verdict: this.verdict, stats: this.#supervisor.stats }),
      publish: (text) => parts.lock.publish(text),
    });
    // However the loop ends, the lock and the listeners go with it.
    this.#supervisor.closed.finally(() => this.#release()).catch(() => {});
  }

  /**
   * Opens the queue, takes its sender lock and starts delivering.
   *
   * @param options The queue, the remote, and what differs from the defaults.
   * @throws {RangeError} An option is out of range.
   * @throws {TypeError} The remote is not a `tcp://` URL.
   * @throws {UnsupportedPlatformError} Not Linux, or no libc.
   * @throws {QueueFileError} The file cannot be used as a queue.
   * @throws {QueueLockedError} Another sender has it.
   * @throws {Deno.errors.NotCapable} A permission is missing; the message names the flag.
   */
  static async open(options: SenderOptions): Promise<Sender> {
    const limits = limitsOf(options);
    const remote = typeof options.remote === "string"
      ? parseRemote(options.remote)
      : options.remote;
    const dialer = options.dialer ?? realDialer(remote, options.socket ?? {}, limits);
    const clock = options.clock ?? systemClock;
    const ownsQueue = typeof options.queue === "string";
    const queue = typeof options.queue === "string"
      ? await OutboundQueue.open(options.queue, { clock, ...options.queueOptions })
      : options.queue;
    try {
      return new Sender({
        queue,
        ownsQueue,
        lock: await SenderLock.acquire(queue.path, clock),
        dialer,
        clock,
        limits,
        random: options.random ?? Math.random,
        logger: options.logger ?? silentLogger,
        receivedBufferBytes: options.receivedBufferBytes ?? 1024 * 1024,
      });
    } catch (error) {
      if (ownsQueue) await queue.close();
      throw error;
    }
  }

  /**
   * Stores a packet; it will be sent behind all earlier ones. What is stored is
   * what goes on the wire, byte for byte.
   *
   * @param packet At least 1 byte. It may be changed again after the call.
   * @param options `signal` ends a wait for room.
   * @returns Its id, once it is on disk.
   * @throws {PacketSizeError} Empty, or above `maxPacketBytes`.
   * @throws {QueueFullError} A limit is met and `overflow` is `"reject"`.
   * @throws {QueueFileError} The disk is full or failed.
   * @throws {ClosedError} The sender is closed.
   */
  enqueue(packet: Uint8Array, options?: EnqueueOptions): Promise<number> {
    return this.queue.enqueue(packet, options);
  }

  /**
   * Stores packets in one transaction: all of them, or none.
   *
   * @param packets Each at least 1 byte.
   * @param options `signal` ends a wait for room.
   * @returns The ids of the first and the last; those between are in order.
   */
  enqueueMany(
    packets: readonly Uint8Array[],
    options?: EnqueueOptions,
  ): Promise<IdRange> {
    return this.queue.enqueueMany(packets, options);
  }

  /**
   * A stream that stores each chunk as one packet. `ready` holds the producer
   * back while 1 MiB waits for the disk; `close()` resolves once all is on
   * disk. A chunk that cannot be stored errors the stream.
   */
  get writable(): WritableStream<Uint8Array> {
    let waitingPackets = 0;
    let waitingBytes = 0;
    let failure: { readonly error: unknown } | undefined;
    let wake = () => {};
    const settled = (bytes: number) => {
      waitingPackets--;
      waitingBytes -= bytes;
      wake();
    };
    const until = async (enough: () => boolean) => {
      while (!enough() && failure === undefined) {
        await new Promise<void>((resolve) => wake = resolve);
      }
      if (failure !== undefined) throw failure.error;
    };
    return new WritableStream<Uint8Array>({
      write: (packet) => {
        const bytes = packet.length;
        waitingPackets++;
        waitingBytes += bytes;
        this.queue.enqueue(packet).then(() => settled(bytes), (error) => {
          failure ??= { error };
          settled(bytes);
        });
        return until(() => waitingBytes <= WRITABLE_WINDOW_BYTES);
      },
      close: () => until(() => waitingPackets === 0),
    });
  }

  /**
   * What the server sends, across connections. Read or not, it never holds up
   * delivery: see `receivedBufferBytes`. Can be taken by one reader.
   */
  get received(): ReadableStream<Uint8Array> {
    return this.#received.stream;
  }

  /**
   * Resolves once every packet that is on disk now has drained: its last byte
   * was acknowledged.
   *
   * @param signal Ends the wait.
   * @throws {ClosedError} The sender was closed before.
   */
  async drained(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (signal === undefined) return await this.#supervisor.drained();
    const { promise, reject } = Promise.withResolvers<never>();
    const onAbort = () => reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      await Promise.race([this.#supervisor.drained(), promise]);
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  /**
   * Every change of state and verdict from now on, the present one first.
   * A listener that falls 256 behind loses the oldest.
   */
  status(): AsyncIterableIterator<SenderStatus> {
    const { state, verdict } = this.#supervisor;
    return this.#hub.listen(
      this.#statusOf({ state, verdict, words: state, level: "debug", error: undefined }),
    );
  }

  /** How things stand, without a table scan. */
  stats(): SenderStats {
    return {
      ...this.#supervisor.stats,
      queue: this.queue.stats(),
      receivedBytesDiscarded: this.#received.discardedBytes,
    };
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
   * Resolves when the sender has ended, by {@linkcode Sender.close}; rejects if
   * it cannot go on, for example when the kernel refuses a socket option. What
   * is stored stays stored.
   */
  get closed(): Promise<void> {
    return this.#supervisor.closed;
  }

  /**
   * Delivers what it can until the deadline, half-closes, and waits for the
   * server's FIN: a server that closes has read everything, or its kernel would
   * send a reset. What is not confirmed stays on disk for the next start. Idempotent; a second call may shorten the
   * deadline.
   *
   * @param options The deadline.
   */
  close(options: CloseOptions = {}): Promise<void> {
    const { drainMs = 5000 } = options;
    if (!(drainMs >= 0)) throw new RangeError(`drainMs must be 0 or more, got ${drainMs}`);
    const ended = this.#supervisor.close(drainMs);
    this.#closing ??= ended.finally(() => this.#release());
    return this.#closing;
  }

  /** The same as {@linkcode Sender.close} with its default. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #releasing: Promise<void> | undefined;
  #release(): Promise<void> {
    this.#releasing ??= (async () => {
      this.#forgetDropped();
      this.#reports.stop();
      await this.#doorbell.stop();
      this.#hub.close();
      this.#received.close();
      if (this.#ownsQueue) await this.queue.close();
      this.#lock.release();
    })();
    return this.#releasing;
  }

  #publish(status: DeliveryStatus): void {
    this.#reports.note(status);
    this.#hub.publish(this.#statusOf(status));
  }

  #statusOf(status: DeliveryStatus): SenderStatus {
    return { ...status, atMs: this.#clock.wallMs(), stats: this.stats() };
  }
}

interface SenderParts {
  readonly queue: OutboundQueue;
  readonly ownsQueue: boolean;
  readonly lock: SenderLock;
  readonly dialer: Dialer;
  readonly clock: Clock;
  readonly limits: SupervisorLimits;
  readonly random: Random;
  readonly logger: Logger;
  readonly receivedBufferBytes: number;
}

/** What the server sent, bounded, for one reader who may never come. */
class Inbox {
  readonly stream: ReadableStream<Uint8Array>;
  #controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  #discardedBytes = 0;

  constructor(bufferBytes: number) {
    this.stream = new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.#controller = controller;
      },
      cancel: () => {
        this.#controller = undefined;
      },
    }, { highWaterMark: bufferBytes, size: (chunk) => chunk.length });
  }

  get discardedBytes(): number {
    return this.#discardedBytes;
  }

  offer(chunk: Uint8Array): void {
    const room = this.#controller?.desiredSize ?? 0;
    if (room >= chunk.length) this.#controller?.enqueue(chunk);
    else this.#discardedBytes += chunk.length;
  }

  close(): void {
    this.#controller?.close();
    this.#controller = undefined;
  }
}

const silentLogger: Logger = { debug() {}, info() {}, warn() {}, error() {} };

function limitsOf(options: SenderOptions): SupervisorLimits {
  const {
    responseTimeoutMs = Infinity,
    holdMs = responseTimeoutMs === Infinity ? 1000 : responseTimeoutMs + 1000,
    stallTimeoutMs = 3000,
    peerStallTimeoutMs = 300_000,
    maxInFlightBytes = 256 * 1024,
    connectTimeoutMs = 1000,
    slowConnectTimeoutMs = 5000,
    backoffFirstMs = 100,
    backoffCapMs = 1000,
    connect = "on-demand",
    onPeerFin = "reconnect",
    receivedBufferBytes = 1024 * 1024,
    socket = {},
  } = options;
  const atLeast = (minimum: number, values: Record<string, number>) => {
    for (const [name, value] of Object.entries(values)) {
      if (!(value >= minimum)) {
        throw new RangeError(`${name} must be ${minimum} or more, got ${value}`);
      }
    }
  };
  atLeast(0, { holdMs, backoffFirstMs, backoffCapMs, receivedBufferBytes });
  atLeast(100, { stallTimeoutMs, peerStallTimeoutMs, connectTimeoutMs, slowConnectTimeoutMs });
  atLeast(1, { maxInFlightBytes });
  atLeast(1, { responseTimeoutMs });
  if (responseTimeoutMs !== Infinity && holdMs <= responseTimeoutMs) {
    throw new RangeError(
      `holdMs must be more than responseTimeoutMs = ${responseTimeoutMs}, got ${holdMs}`,
    );
  }
  oneOf("connect", connect, ["on-demand", "always"]);
  oneOf("onPeerFin", onPeerFin, ["reconnect", "keep-sending"]);
  const { keepAlive } = validateSocketOptions(socket);
  return {
    holdMs,
    responseTimeoutMs,
    stallTimeoutMs,
    peerStallTimeoutMs,
    maxInFlightBytes,
    connectTimeoutMs,
    slowConnectTimeoutMs: Math.max(connectTimeoutMs, slowConnectTimeoutMs),
    slowConnectEvery: 4,
    backoffFirstMs,
    backoffCapMs,
    connect,
    onPeerFin,
    keepAlive: keepAlive === false ? undefined : {
      timeoutMs: keepAlive.idleMs + keepAlive.count * keepAlive.intervalMs,
      probes: keepAlive.count,
    },
  };
}

function oneOf(name: string, value: string, values: readonly string[]): void {
  if (!values.includes(value)) {
    throw new RangeError(`${name} must be one of ${values.join(", ")}; got "${value}"`);
  }
}

/** The kernel's own dialer, checked before anything is opened. */
function realDialer(remote: Remote, socket: SocketOptions, limits: SupervisorLimits): Dialer {
  const userTimeoutMs = limits.peerStallTimeoutMs + limits.stallTimeoutMs + USER_TIMEOUT_MARGIN_MS;
  const options = { userTimeoutMs: Math.min(userTimeoutMs, 2 ** 31 - 1), ...socket };
  return tcpDialer({ ...remote, socket: options });
}

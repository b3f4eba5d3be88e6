/**
 * Store and forward for programs that cannot be changed: many clients connect,
 * what they send is cut into packets, stored, and delivered by one ordered
 * sender.
 *
 * Invariants, beside what {@linkcode Relay} says of ends:
 * 1. A client's packets are stored in the order in which it sent them. Packets
 *    of different clients are never mixed, whatever the order among them.
 * 2. Nothing more is read from a client before what was read from it is stored,
 *    so a full queue holds the clients back and memory stays bounded.
 * 3. A packet that is not whole when its client ends is not stored, and said.
 * 4. One client's fault ends that client and nobody else.
 * 5. What clients take is bounded: their number, what each has sent of a packet
 *    that is not whole, all of these together, and descriptors, of which some
 *    are always left to the delivery.
 */

import { systemClock } from "../base/clock.ts";
import { inPackets, messageOf, OptionError } from "../base/errors.ts";
import { harmlessLogger } from "../base/logger.ts";
import { QUEUE_OPTIONS, RELAY_OPTIONS } from "../base/option_table.ts";
import { checkFields, type ResolvedOptions, resolveOptions } from "../base/options.ts";
import type { Clock, Logger } from "../base/ports.ts";
import { within } from "../base/waits.ts";
import { FramingError } from "../framing/errors.ts";
import { batchLimitsFor } from "../framing/input_pump.ts";
import { PacketSplitter } from "../framing/splitter.ts";
import { AcceptedEnd } from "../kernel/accepted_end.ts";
import {
  type ConnectionAddresses,
  hasSpareDescriptors,
  type ReportedEnd,
} from "../kernel/descriptor.ts";
import { isOfOneClient } from "../kernel/listen.ts";
import { behindOf, type Sender } from "../sender/sender.ts";
import { type Arrival, Client, closeOnce, JunkLog, turnAway } from "./client.ts";
import type {
  RelayAddress,
  RelayConnection,
  RelayListener,
  RelayOptions,
  RelayStats,
  RelayStopOptions,
} from "./options.ts";

/** Those that no table has. */
const OTHERS: readonly (keyof RelayOptions)[] = [
  ...["sender", "listeners", "input", "output", "maxPacketBytes", "maxUnfinishedBytes"] as const,
  ...["oversize", "logger", "clock"] as const,
];
const STOP_OPTIONS: readonly (keyof RelayStopOptions)[] = ["storeTimeoutMs"];

type Counters = { -readonly [K in Exclude<keyof RelayStats, "clients">]: number };

/** An accept that has failed is tried again after this. */
const ACCEPT_RETRY_MS = 250;
/** Left to the delivery, 16 as at the status page, and to those who read that. */
const RESERVED_DESCRIPTORS = 24;

/**
 * Takes packets in from clients and hands them to a sender.
 *
 * A client that ends its side in order is closed in turn once all its packets
 * are on disk; where it may get replies, it is kept for a while after that. Every
 * other end is a reset (`ECONNRESET`): {@linkcode Relay.stop}, a packet that could
 * not be stored or was not whole, input that is not what its framing promises, and
 * a process that is killed. Packets that were skipped or cut for their size, as
 * `oversize` says, count as stored.
 *
 * Two things look like an orderly end all the same. A Unix socket knows no reset:
 * a client that has to know what is on disk connects by TCP. And a process that
 * ends by an uncaught exception is closed in order by the runtime: catch it, and
 * stop the relay, or call `Deno.exit`.
 *
 * @category Relay
 */
export class Relay implements AsyncDisposable {
  readonly #options: RelayOptions;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #junk: JunkLog;
  readonly #batch: ReturnType<typeof batchLimitsFor>;
  /** Whether nothing marks the end of a packet, so that several clients would be mixed. */
  readonly #mixes: boolean;
  readonly #limits: ResolvedOptions<typeof RELAY_OPTIONS> & { readonly maxUnfinishedBytes: number };
  readonly #received: ReadableStreamDefaultReader<Uint8Array> | undefined;
  readonly #clients = new Set<Client>();
  readonly #serving = new Set<Promise<void>>();
  /** Those of clients that are gone, and of who was turned away. */
  readonly #past: Counters = {
    ...{ clientsAccepted: 0, storedPackets: 0, unstoredPackets: 0, unfinishedPackets: 0 },
    ...{ oversizePackets: 0, idleClients: 0, refusedClients: 0, droppedReplies: 0 },
  };
  #lastClient: Client | undefined;
  #trouble: string | undefined;
  #fullSaid = false;
  #sameEndsSaid = false;
  #lateReplySaid = false;
  /** Resolved when a client has left, or it is to be stopped. */
  #change = Promise.withResolvers<void>();
  #stopping: Promise<void> | undefined;

  /**
   * Begins to accept clients.
   *
   * @param options Sender, listeners, framing.
   * @throws {OptionError} A bound is out of range.
   * @throws {TypeError} Replies are wanted, and somebody else reads the sender's `received`.
   */
  constructor(options: RelayOptions) {
    checkFields("", options, [RELAY_OPTIONS, ...OTHERS]);
    const { clock = systemClock, maxPacketBytes = QUEUE_OPTIONS.maxPacketBytes.default } = options;
    const limits = resolveOptions(RELAY_OPTIONS, options);
    const { maxUnfinishedBytes = 4 * maxPacketBytes } = options;
    if (!(maxUnfinishedBytes >= maxPacketBytes)) {
      throw new OptionError(
        "maxUnfinishedBytes",
        maxUnfinishedBytes,
        `must be maxPacketBytes = ${maxPacketBytes} or more`,
      );
    }
    this.#options = options;
    this.#clock = clock;
    this.#logger = harmlessLogger(options.logger);
    this.#junk = new JunkLog(this.#logger, clock);
    this.#batch = batchLimitsFor(options.sender.queue.limits);
    // Throws what every client would.
    this.#mixes = !this.#splitter().marksEnds;
    const maxClients = this.#mixes ? 1 : limits.maxClients;
    this.#limits = { ...limits, maxClients, maxUnfinishedBytes };
    this.#received = limits.replies === "discard" ? undefined : readerOf(options.sender);
    for (const listener of options.listeners) void this.#accept(listener);
    if (this.#received !== undefined) void this.#passReplies(this.#received);
  }

  /** How things stand. */
  stats(): RelayStats {
    const stats = { clients: this.#clients.size, ...this.#past };
    for (const client of this.#clients) countIn(stats, client);
    return stats;
  }

  /**
   * Accepts and reads no more, stores what was read, and lets the clients go.
   * What they have sent and nobody has read yet is theirs to send again.
   * Idempotent; a second call may shorten the time. The sender goes on.
   *
   * @param options How long it may take.
   */
  stop(options: RelayStopOptions = {}): Promise<void> {
    checkFields("", options, STOP_OPTIONS);
    const { storeTimeoutMs = 5000 } = options;
    if (!(storeTimeoutMs >= 0)) {
      throw new RangeError(`storeTimeoutMs must be 0 or more, got ${storeTimeoutMs}`);
    }
    this.#stopping ??= this.#stop();
    const cancel = storeTimeoutMs === Infinity ? () => {} : this.#clock.setTimer(
      storeTimeoutMs,
      () => this.#clients.forEach(({ pump }) => pump.giveUp()),
    );
    return this.#stopping.finally(cancel);
  }

  /** The same as {@linkcode Relay.stop} with its default. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #stop(): Promise<void> {
    // Whoever called us has us as the promise of the end by then.
    await undefined;
    for (const listener of this.#options.listeners) closeOnce(listener);
    this.#tellChange();
    for (const client of this.#clients) client.pump.stop();
    await Promise.all([...this.#clients].map(async (client) => {
      await client.pump.stored();
      client.close();
    }));
    await Promise.all(this.#serving);
    this.#junk.end();
    this.#received?.releaseLock();
  }

  async #accept(listener: RelayListener): Promise<void> {
    let trouble: string | undefined;
    const complain = (words: string) => {
      if (trouble !== words) this.#logger.error(words);
      trouble = words;
    };
    while (!this.#isStopping()) {
      let arrival: Arrival;
      try {
        arrival = this.#arrivalOf(await listener.accept());
      } catch (error) {
        // Closed: also while a client waited to be accepted.
        if (this.#isStopping()) return;
        // The next one is not to wait for a client that has reset meanwhile.
        if (isOfOneClient(error)) continue;
        complain(`cannot accept clients: ${messageOf(error)}`);
        await this.#pause(ACCEPT_RETRY_MS);
        continue;
      }
      if (!this.#isStopping() && !hasSpareDescriptors(RESERVED_DESCRIPTORS)) {
        turnAway(arrival);
        this.#past.refusedClients++;
        complain(
          "clients are turned away: the last open files are kept for the delivery. " +
            "Raise the limit of open files (ulimit -n)",
        );
        continue;
      }
      trouble = undefined;
      // Not read yet: it waits as it would in the listener's backlog. Those of several listeners
      // wait for the same place: between the look and the taking of it nothing else may run.
      while (this.#clients.size >= this.#limits.maxClients && !this.#isStopping()) {
        await this.#makeRoom();
      }
      if (this.#clients.size + 1 < this.#limits.maxClients) this.#fullSaid = false;
      if (this.#isStopping()) return turnAway(arrival);
      const serving = this.#serve(arrival).finally(() => this.#serving.delete(serving));
      this.#serving.add(serving);
    }
  }

  /** Before anything is read: from then on a process that is killed resets its clients. */
  #arrivalOf(connection: RelayConnection): Arrival {
    const ends = tcpEndsOf(connection);
    if (ends === undefined) return { connection, end: undefined };
    const onRefused = (error: unknown) => {
      if (!this.#sameEndsSaid) {
        this.#logger.warn(
          "clients see an orderly end also where something could not be stored: " +
            messageOf(error),
        );
      }
      this.#sameEndsSaid = true;
    };
    try {
      return { connection, end: AcceptedEnd.of(ends, onRefused) };
    } catch (error) {
      onRefused(error);
      return { connection, end: undefined };
    }
  }

  /** Lets one go who has to, or waits until somebody may have left. */
  async #makeRoom(): Promise<void> {
    const candidate = this.#dispensable();
    const nowMs = this.#clock.nowMs();
    // All of them wait for us: none can be due sooner, whenever they are stored.
    const dueMs = candidate === undefined
      ? nowMs + this.#limits.idleTimeoutMs
      : candidate.lingers
      ? nowMs
      : candidate.heardMs + this.#limits.idleTimeoutMs;
    if (candidate !== undefined && dueMs <= nowMs) {
      if (!candidate.lingers) {
        this.#past.idleClients++;
        const seconds = (nowMs - candidate.heardMs) / 1000;
        candidate.endReason = `has sent nothing for ${seconds.toFixed(0)} s, and another waits`;
      }
      candidate.close();
      await candidate.gone;
      return;
    }
    if (!this.#fullSaid) {
      this.#logger.warn(
        this.#mixes
          ? "chunks of several clients would be mixed: one client at a time; further ones have to wait"
          : `${this.#limits.maxClients} clients are connected; further ones have to wait`,
      );
    }
    this.#fullSaid = true;
    await this.#pause(dueMs - nowMs);
  }

  /** Who leaves first: one that only waits for replies, then the one that has been silent longest. */
  #dispensable(): Client | undefined {
    let silent: Client | undefined;
    for (const client of this.#clients) {
      if (client.lingers) return client;
      const waitsForUs = client.pump.unstoredPackets > 0;
      if (!waitsForUs && client.heardMs < (silent?.heardMs ?? Infinity)) silent = client;
    }
    return silent;
  }

  async #serve(arrival: Arrival): Promise<void> {
    const { connection } = arrival;
    const number = this.#past.clientsAccepted + this.#clients.size + 1;
    const splitter = this.#splitter();
    const client: Client = new Client(number, arrival, splitter, {
      source: {
        read: async (buffer) => {
          this.#boundUnfinished();
          const length = await connection.read(buffer);
          if (length !== null) client.heardMs = this.#clock.nowMs();
          return length;
        },
      },
      splitter,
      store: async (packets, signal) => {
        const { sender } = this.#options;
        try {
          await sender.enqueueMany(packets, { signal });
        } catch (error) {
          // The client and the log learn it; whoever disposes of the sender does not.
          behindOf(sender).keptBack(error);
          throw error;
        }
        this.#lastClient = client;
        this.#trouble = undefined;
        // What it sends next was not read meanwhile.
        client.heardMs = this.#clock.nowMs();
      },
      ...this.#batch,
      endCompletes: false,
      clock: this.#clock,
      onTrouble: (words) => {
        // Everyone waits for the same queue: one line is enough.
        if (words !== this.#trouble) this.#logger.warn(words);
        this.#trouble = words;
      },
      onDoubt: (words) => this.#junk.warn(`${client.name}: ${words}`),
    });
    this.#clients.add(client);
    this.#logger.debug(`${client.name} connected`);
    let error: unknown;
    try {
      connection.setKeepAlive?.(true);
      await client.pump.run();
      await this.#linger(client);
    } catch (thrown) {
      error = thrown;
    }
    client.close();
    this.#clients.delete(client);
    this.#farewell(client, error);
    client.leave();
    this.#tellChange();
  }

  /** Whoever only ended its side is kept for the replies to what it sent. */
  async #linger(client: Client): Promise<void> {
    const { replies, replyTimeoutMs } = this.#limits;
    if (replies === "discard") return;
    client.lingers = true;
    client.heardMs = this.#clock.nowMs();
    this.#tellChange(); // Somebody may wait for its place.
    while (client.isOpen && !client.replies.broken && !this.#isStopping()) {
      const leftMs = client.heardMs + replyTimeoutMs - this.#clock.nowMs();
      if (leftMs <= 0) break;
      await this.#pause(leftMs, client.closed);
    }
    await within(replyTimeoutMs, client.replies.flushed(), this.#clock);
    if (client.replies.waitingBytes > 0) client.endReason = "does not read its replies";
  }

  /** One client alone is bounded by its splitter; many are by this. */
  #boundUnfinished(): void {
    let bytes = 0;
    let largest: Client | undefined;
    for (const client of this.#clients) {
      // One that is closed already will be gone in a moment.
      const { unfinishedBytes } = client.isOpen ? client.splitter : { unfinishedBytes: 0 };
      bytes += unfinishedBytes;
      if (unfinishedBytes > (largest?.splitter.unfinishedBytes ?? 0)) largest = client;
    }
    // One is enough: before each read there was not much more than there may be.
    const { maxUnfinishedBytes } = this.#limits;
    if (bytes > maxUnfinishedBytes && largest !== undefined) {
      largest.endReason = `is cut off inside a packet of ${largest.splitter.unfinishedBytes} ` +
        `bytes so far: all clients together have sent more than ${maxUnfinishedBytes} bytes ` +
        "of packets that are not whole";
      largest.close();
    }
  }

  /** Counts what a client leaves behind, and says what was lost. */
  #farewell(client: Client, error: unknown): void {
    const { name, pump, splitter, replies, endReason } = client;
    const { storedPackets, unstoredPackets, unfinishedBytes } = pump;
    countIn(this.#past, client);
    if (this.#lastClient === client) this.#lastClient = undefined;
    const inside = unfinishedBytes > 0 && splitter.fault === undefined;
    if (inside) this.#past.unfinishedPackets++;

    const before = `stored before it: ${inPackets(storedPackets)}`;
    const log = storedPackets === 0 ? this.#junk : this.#logger;
    if (error instanceof FramingError) {
      log.warn(`${name} is cut off, ${before}: ${error.message}`);
    } else if (unstoredPackets > 0) {
      const why = error === undefined ? "" : `: ${messageOf(error)}`;
      this.#logger.error(
        `${name} is cut off with ${inPackets(unstoredPackets)} that could not be stored${why}`,
      );
    } else if (endReason !== undefined) {
      const lost = inside ? `; ${unfinishedBytes} bytes of a packet are dropped` : "";
      log.warn(`${name} ${endReason}${lost}, ${inPackets(storedPackets)} stored`);
    } else if (inside) {
      const how = this.#isStopping() ? "was let go" : "ended";
      log.warn(
        `${name} ${how} inside a packet: ${unfinishedBytes} bytes of it are dropped, ${before}`,
      );
    } else if (error !== undefined && !this.#isStopping()) {
      log.warn(
        `${name} broke off, ${inPackets(storedPackets)} stored: ${messageOf(error)}`,
      );
    } else {
      this.#logger.debug(`${name} ended, ${inPackets(storedPackets)} stored`);
    }
    if (replies.droppedWrites > 0) {
      this.#logger.warn(`${name} read too slowly: a part of the server's bytes was dropped for it`);
    }
  }

  async #passReplies(received: ReadableStreamDefaultReader<Uint8Array>): Promise<void> {
    try {
      for (;;) {
        const { done, value } = await received.read();
        if (done) return;
        this.#reply(value);
      }
    } catch {
      // Released by stop(): what comes is for whoever reads next.
    }
  }

  #reply(chunk: Uint8Array): void {
    const to = this.#limits.replies === "all"
      ? [...this.#clients]
      : this.#lastClient === undefined
      ? []
      : [this.#lastClient];
    if (to.length === 0) {
      this.#past.droppedReplies++;
      if (!this.#lateReplySaid) {
        this.#logger.warn("the server has sent something, and no client is there to be told");
      }
      this.#lateReplySaid = true;
      return;
    }
    this.#lateReplySaid = false;
    for (const client of to) client.replies.writeBytes(chunk);
  }

  #splitter(): PacketSplitter {
    const { input, output = input, oversize = "fail" } = this.#options;
    const { maxPacketBytes = QUEUE_OPTIONS.maxPacketBytes.default } = this.#options;
    const { maxBytes } = this.#options.sender.queue.limits;
    return new PacketSplitter({ input, output, maxPacketBytes, maxBytes, oversize });
  }

  #isStopping(): boolean {
    return this.#stopping !== undefined;
  }

  #tellChange(): void {
    this.#change.resolve();
    this.#change = Promise.withResolvers();
  }

  /** Waits, but not beyond the next change among the clients, nor beyond `other`. */
  async #pause(ms: number, other?: Promise<void>): Promise<void> {
    const change = this.#change.promise;
    await within(ms, other ? Promise.race([change, other]) : change, this.#clock);
  }
}

/** Adds a client, and what it has counted. */
function countIn(counters: Counters, { pump, splitter, replies }: Client): void {
  counters.clientsAccepted++;
  counters.storedPackets += pump.storedPackets;
  counters.unstoredPackets += pump.unstoredPackets;
  counters.oversizePackets += splitter.oversizePackets;
  counters.droppedReplies += replies.droppedWrites;
}

/** `undefined`: it is no TCP connection, or does not say so. */
function tcpEndsOf({ localAddr, remoteAddr }: RelayConnection): ConnectionAddresses | undefined {
  const [local, remote] = [tcpEndOf(localAddr), tcpEndOf(remoteAddr)];
  return local && remote && { localAddr: local, remoteAddr: remote };
}

function tcpEndOf(address: RelayAddress | undefined): ReportedEnd | undefined {
  const { transport, hostname, port } = address ?? {};
  return transport !== "tcp" || hostname === undefined || port === undefined
    ? undefined
    : { hostname, port };
}

function readerOf({ received }: Sender): ReadableStreamDefaultReader<Uint8Array> {
  if (received.locked) {
    throw new TypeError(
      "The sender's `received` has a reader already, and replies can be passed on by one only: " +
        'one relay with replies a sender. Stop the other one first, or use replies: "discard".',
    );
  }
  return received.getReader();
}

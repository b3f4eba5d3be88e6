/**
 * Store and forward for programs that cannot be changed: many clients connect,
 * what they send is cut into packets, stored, and delivered by one ordered
 * sender.
 *
 * Invariants:
 * 1. A client's packets are stored in the order in which it sent them. Packets
 *    of different clients are never mixed, whatever the order among them.
 * 2. Nothing more is read from a client before what was read from it is stored,
 *    so a full queue holds the clients back and memory stays bounded.
 * 3. A packet that is not whole when its client ends is not stored, and said.
 * 4. One client's fault ends that client and nobody else.
 *
 * @module
 */

import { BackgroundWriter } from "../base/background_writer.ts";
import { systemClock } from "../base/clock.ts";
import { messageOf } from "../base/errors.ts";
import { QUEUE_OPTIONS, RELAY_OPTIONS } from "../base/option_table.ts";
import { resolveOptions } from "../base/options.ts";
import type { Clock, Logger } from "../base/ports.ts";
import { type Framing, FramingError, PacketSplitter } from "../framing/framing.ts";
import { batchLimitsFor, InputPump } from "../framing/input_pump.ts";
import type { Sender } from "../sender/sender.ts";

/** A refused accept, for want of descriptors, is tried again after this. */
const ACCEPT_RETRY_MS = 250;

/** One client's connection, as `Deno.Listener` gives it. */
export interface RelayConnection {
  /** Where the client is. */
  readonly remoteAddr: {
    readonly transport: string;
    readonly hostname?: string;
    readonly port?: number;
  };
  /** Reads some bytes; `null` once the client has ended. */
  read(buffer: Uint8Array): Promise<number | null>;
  /** Writes some of the bytes. */
  write(bytes: Uint8Array): Promise<number>;
  /** Ends it. */
  close(): void;
  /** Finds out about clients whose machine is gone; TCP only. */
  setKeepAlive?(on?: boolean): void;
}

/** Where clients connect: what `Deno.listen` returns. */
export interface RelayListener {
  /** Waits for a client; rejects once closed. */
  accept(): Promise<RelayConnection>;
  /** Ends it. */
  close(): void;
}

/**
 * Which client gets what the server sends:
 * - `"discard"`: none
 * - `"last-client"`: the one whose packet was stored last, while it is connected
 * - `"all"`: everyone connected
 */
export type Replies = "discard" | "last-client" | "all";

/** How to open a {@linkcode Relay}. */
export interface RelayOptions {
  /** Delivers. Its queue should have `overflow: "wait"`, which holds clients back. */
  readonly sender: Sender;
  /** Where clients connect; closed with the relay. */
  readonly listeners: readonly RelayListener[];
  /** How packets are told apart in what clients send. */
  readonly input: Framing;
  /**
   * How they are told apart on the wire.
   *
   * @default {input}
   */
  readonly output?: Framing;
  /**
   * The largest packet on the wire. Also what one client may take of memory.
   *
   * @default {16_777_216} 16 MiB
   */
  readonly maxPacketBytes?: number;
  /**
   * The most clients at a time. Further ones wait in the listener's backlog
   * until one leaves. With several listeners each may take one more.
   *
   * @default {256}
   */
  readonly maxClients?: number;
  /**
   * What becomes of the server's bytes; see {@linkcode Replies}. A client that
   * does not read them loses those beyond 256 KiB, and holds nobody up.
   *
   * @default {"discard"}
   */
  readonly replies?: Replies;
  /** Takes log lines. Silent by default. */
  readonly logger?: Logger;
  /** Time, for tests. */
  readonly clock?: Clock;
}

/** Where a relay stands; counters run since it was opened. */
export interface RelayStats {
  /** Clients connected now. */
  readonly clients: number;
  /** Clients that ever were. */
  readonly clientsAccepted: number;
  /** Packets of clients that were stored. */
  readonly storedPackets: number;
  /** Packets that were read and could not be stored. */
  readonly unstoredPackets: number;
  /** Packets that were not whole when their client ended. */
  readonly unfinishedPackets: number;
  /** Pieces of the server's bytes that a client did not read in time. */
  readonly droppedReplies: number;
}

/**
 * Takes packets in from clients and hands them to a sender.
 *
 * A client that ends its side in order is closed in turn once all its packets
 * are on disk.
 *
 * @example Lines from a local program, delivered to a server
 * ```ts
 * import { Relay, Sender } from "@sendq/sendq";
 * import assert from "node:assert/strict";
 *
 * // A server, for this example.
 * const server = Deno.listen({ hostname: "127.0.0.1", port: 0 });
 * const served = server.accept().then((connection) => new Response(connection.readable).text());
 *
 * const sender = await Sender.open({
 *   queue: `${await Deno.makeTempDir()}/outbox.db`,
 *   queueOptions: { overflow: "wait" },
 *   remote: `tcp://127.0.0.1:${server.addr.port}`,
 * });
 * const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
 * const relay = new Relay({ sender, listeners: [listener], input: "lines" });
 *
 * // A program that believes it speaks to its server.
 * const client = await Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port });
 * await client.write(new TextEncoder().encode("one\ntwo\n"));
 * await client.closeWrite();
 * await client.read(new Uint8Array(1)); // its end: everything is on disk
 * client.close();
 *
 * await relay.stop();
 * await sender.close();
 * assert.equal(await served, "one\ntwo\n");
 * server.close();
 * ```
 */
export class Relay implements AsyncDisposable {
  readonly #options: RelayOptions;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #batch: ReturnType<typeof batchLimitsFor>;
  readonly #maxClients: number;
  readonly #replies: Replies;
  readonly #clients = new Set<Client>();
  readonly #serving = new Set<Promise<void>>();
  readonly #ended = { clients: 0, stored: 0, unstored: 0, unfinished: 0, droppedReplies: 0 };
  #lastClient: Client | undefined;
  #trouble: string | undefined;
  #onRoom: (() => void) | undefined;
  #stopping: Promise<void> | undefined;

  /**
   * Begins to accept clients.
   *
   * @param options Sender, listeners, framing.
   * @throws {OptionError} `maxClients` or `maxPacketBytes` is out of range.
   */
  constructor(options: RelayOptions) {
    const { maxClients, replies } = resolveOptions(RELAY_OPTIONS, options);
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#logger = options.logger ?? { debug() {}, info() {}, warn() {}, error() {} };
    this.#batch = batchLimitsFor(options.sender.queue.limits);
    this.#maxClients = maxClients;
    this.#replies = replies;
    this.#splitter(); // Throws what every client would.
    for (const listener of options.listeners) void this.#accept(listener);
    void this.#passReplies();
  }

  /** How things stand. */
  stats(): RelayStats {
    const clients = [...this.#clients];
    const sum = (count: (client: Client) => number) =>
      clients.reduce((total, client) => total + count(client), 0);
    const { stored, unstored, unfinished, droppedReplies } = this.#ended;
    return {
      clients: clients.length,
      clientsAccepted: this.#ended.clients + clients.length,
      storedPackets: stored + sum(({ pump }) => pump.storedPackets),
      unstoredPackets: unstored + sum(({ pump }) => pump.unstoredPackets),
      unfinishedPackets: unfinished,
      droppedReplies: droppedReplies + sum(({ replies }) => replies.droppedWrites),
    };
  }

  /**
   * Accepts and reads no more, stores what was read, and lets the clients go.
   * What they have sent and nobody has read yet is theirs to send again.
   * Idempotent. The sender goes on.
   */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  /** The same as {@linkcode stop}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #stop(): Promise<void> {
    for (const listener of this.#options.listeners) listener.close();
    this.#onRoom?.();
    for (const client of this.#clients) client.pump.stop();
    await Promise.all([...this.#clients].map(async (client) => {
      await client.pump.stored();
      client.close();
    }));
    await Promise.all(this.#serving);
  }

  async #accept(listener: RelayListener): Promise<void> {
    let trouble = false;
    while (this.#stopping === undefined) {
      await this.#room();
      let connection: RelayConnection;
      try {
        connection = await listener.accept();
        trouble = false;
      } catch (error) {
        // Closed: also while a client waited to be accepted.
        if (this.#isStopping()) return;
        if (!trouble) this.#logger.error(`cannot accept clients: ${messageOf(error)}`);
        trouble = true;
        await new Promise<void>((resolve) => this.#clock.setTimer(ACCEPT_RETRY_MS, resolve));
        continue;
      }
      if (this.#isStopping()) return connection.close();
      const serving = this.#serve(connection).finally(() => this.#serving.delete(serving));
      this.#serving.add(serving);
    }
  }

  /** Waits while there are as many clients as there may be. */
  async #room(): Promise<void> {
    if (this.#clients.size < this.#maxClients) return;
    this.#logger.warn(`${this.#maxClients} clients are connected; further ones have to wait`);
    while (this.#clients.size >= this.#maxClients && !this.#isStopping()) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const others = this.#onRoom;
      this.#onRoom = () => {
        others?.();
        resolve();
      };
      await promise;
    }
  }

  async #serve(connection: RelayConnection): Promise<void> {
    const number = this.#ended.clients + this.#clients.size + 1;
    const splitter = this.#splitter();
    const client: Client = new Client(number, connection, splitter, {
      source: connection,
      splitter,
      store: async (packets) => {
        await this.#options.sender.enqueueMany(packets);
        this.#lastClient = client;
        this.#trouble = undefined;
      },
      ...this.#batch,
      endCompletes: false,
      clock: this.#clock,
      onTrouble: (words) => {
        // Everyone waits for the same queue: one line is enough.
        if (words !== this.#trouble) this.#logger.warn(words);
        this.#trouble = words;
      },
    });
    this.#clients.add(client);
    this.#logger.debug(`${client.name} connected`);
    connection.setKeepAlive?.(true);
    let error: unknown;
    try {
      await client.pump.run();
    } catch (thrown) {
      error = thrown;
    }
    client.close();
    this.#clients.delete(client);
    this.#farewell(client, error);
    this.#onRoom?.();
    this.#onRoom = undefined;
  }

  /** Counts what a client leaves behind, and says what was lost. */
  #farewell(client: Client, error: unknown): void {
    const { name, pump, splitter, replies } = client;
    const { storedPackets, unstoredPackets, unfinishedBytes } = pump;
    const ended = this.#ended;
    ended.clients++;
    ended.stored += storedPackets;
    ended.unstored += unstoredPackets;
    ended.droppedReplies += replies.droppedWrites;
    if (this.#lastClient === client) this.#lastClient = undefined;

    const before = `${storedPackets} packets before it are stored`;
    if (error instanceof FramingError) {
      this.#logger.warn(`${name} is cut off, ${before}: ${error.message}`);
    } else if (unstoredPackets > 0) {
      const why = error === undefined ? "" : `: ${messageOf(error)}`;
      this.#logger.error(
        `${name} is cut off with ${unstoredPackets} packets that could not be stored${why}`,
      );
    } else if (unfinishedBytes > 0 && splitter.fault === undefined) {
      ended.unfinished++;
      const how = this.#isStopping() ? "was let go" : "ended";
      this.#logger.warn(
        `${name} ${how} inside a packet: ${unfinishedBytes} bytes of it are dropped, ${before}`,
      );
    } else if (error !== undefined && !this.#isStopping()) {
      this.#logger.warn(`${name} broke off, ${storedPackets} packets stored: ${messageOf(error)}`);
    } else {
      this.#logger.debug(`${name} ended, ${storedPackets} packets stored`);
    }
    if (replies.droppedWrites > 0) {
      this.#logger.warn(`${name} read too slowly: a part of the server's bytes was dropped for it`);
    }
  }

  async #passReplies(): Promise<void> {
    const { received } = this.#options.sender;
    if (this.#replies === "discard") return await received.cancel();
    for await (const chunk of received) {
      const clients = this.#replies === "all" ? this.#clients : [this.#lastClient];
      for (const client of clients) client?.replies.writeBytes(chunk);
    }
  }

  #splitter(): PacketSplitter {
    const { input, output = input, maxPacketBytes = QUEUE_OPTIONS.maxPacketBytes.default } =
      this.#options;
    return new PacketSplitter({ input, output, maxPacketBytes });
  }

  #isStopping(): boolean {
    return this.#stopping !== undefined;
  }
}

/** One client. */
class Client {
  readonly name: string;
  readonly splitter: PacketSplitter;
  readonly pump: InputPump;
  readonly replies: BackgroundWriter;
  readonly #connection: RelayConnection;
  #open = true;

  constructor(
    number: number,
    connection: RelayConnection,
    splitter: PacketSplitter,
    pump: ConstructorParameters<typeof InputPump>[0],
  ) {
    const { hostname, port } = connection.remoteAddr;
    this.name = `client ${number}` + (hostname === undefined ? "" : ` (${hostname}:${port})`);
    this.splitter = splitter;
    this.pump = new InputPump(pump);
    this.replies = new BackgroundWriter(connection);
    this.#connection = connection;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#connection.close();
  }
}

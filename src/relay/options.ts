/** How a relay behaves, and what it says about itself. */

import type { Clock, Logger } from "../base/ports.ts";
import type { Framing } from "../framing/framing.ts";
import type { Oversize } from "../framing/splitter.ts";
import type { Sender } from "../sender/sender.ts";

/**
 * One end of a client's connection, as `Deno.Conn` gives it.
 *
 * @category Relay
 */
export interface RelayAddress {
  /** `"tcp"` or `"unix"`. */
  readonly transport: string;
  /** The IP address; TCP only. */
  readonly hostname?: string;
  /** The port; TCP only. */
  readonly port?: number;
}

/**
 * One client's connection, as `Deno.Listener` gives it.
 *
 * @category Relay
 */
export interface RelayConnection {
  /** Where the client is. */
  readonly remoteAddr: RelayAddress;
  /**
   * Where it has connected to. With both, and `"tcp"` as their transport, the relay finds the
   * connection's descriptor, without which every end looks the same to the client.
   */
  readonly localAddr?: RelayAddress;
  /** Reads some bytes; `null` once the client has ended. */
  read(buffer: Uint8Array): Promise<number | null>;
  /** Writes some of the bytes. */
  write(bytes: Uint8Array): Promise<number>;
  /** Ends it. */
  close(): void;
  /** Finds out about clients whose machine is gone; TCP only. */
  setKeepAlive?(on?: boolean): void;
}

/**
 * Where clients connect: what `Deno.listen` returns.
 *
 * @category Relay
 */
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
 *
 * @category Relay
 */
export type Replies = "discard" | "last-client" | "all";

/**
 * How to open a {@linkcode Relay}.
 *
 * @category Relay
 */
export interface RelayOptions {
  /** Delivers. Its queue should have `overflow: "wait"`, which holds clients back. */
  readonly sender: Sender;
  /** Where clients connect; closed with the relay. */
  readonly listeners: readonly RelayListener[];
  /**
   * How packets are told apart in what clients send; see {@linkcode Framing}. With any but `"chunks"` packets of clients are stored as a whole and
   * never mixed.
   */
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
   * The most clients at a time; further ones wait until one leaves. With `input:
   * "chunks"` it is one at a time, whatever is given here: nothing marks where a
   * message ends, and those of two clients would be mixed in their midst.
   *
   * @default {256}
   */
  readonly maxClients?: number;
  /**
   * When others wait for a place, a client that has sent nothing for this long,
   * in milliseconds, is let go to make it. Without others it may be silent for
   * ever.
   *
   * @default {60_000}
   */
  readonly idleTimeoutMs?: number;
  /**
   * What all clients together may have sent of packets that are not whole. Beyond
   * it the client with the largest one is cut off.
   *
   * @default {4 * maxPacketBytes}
   */
  readonly maxUnfinishedBytes?: number;
  /**
   * What becomes of a packet that is larger than `maxPacketBytes`, or than all of the
   * queue may be (its `maxBytes`); with `"fail"`
   * its client is cut off.
   *
   * @default {"fail"}
   */
  readonly oversize?: Oversize;
  /**
   * What becomes of the server's bytes; see {@linkcode Replies}. A client that
   * does not read them loses those beyond 256 KiB, and holds nobody up. With
   * `"discard"` the sender's `received` is left alone, for whoever wants it.
   *
   * @default {"discard"}
   */
  readonly replies?: Replies;
  /**
   * A client that has ended its side and may still get replies is kept for this
   * long, in milliseconds, after its last packet was stored or it last took some
   * of a reply.
   *
   * @default {5000}
   */
  readonly replyTimeoutMs?: number;
  /** Takes log lines. Silent by default. */
  readonly logger?: Logger;
  /** Time, for tests. */
  readonly clock?: Clock;
}

/**
 * Where a relay stands; counters run since it was opened.
 *
 * @category Relay
 */
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
  /** Packets that were skipped or cut for their size. */
  readonly oversizePackets: number;
  /** Clients that were let go, silent as they were, to make room for others. */
  readonly idleClients: number;
  /** Clients that were turned away for want of descriptors. */
  readonly refusedClients: number;
  /** Pieces of the server's bytes that a client did not read in time, or that came for nobody. */
  readonly droppedReplies: number;
}

/**
 * How to stop a {@linkcode Relay}.
 *
 * @category Relay
 */
export interface RelayStopOptions {
  /**
   * How long what was read may take to be stored, in milliseconds, where the queue
   * is full or its disk; `Infinity` until it is. What is not stored by then is
   * counted, and its client gets no orderly end; see {@linkcode Relay}.
   *
   * @default {5000}
   */
  readonly storeTimeoutMs?: number;
}

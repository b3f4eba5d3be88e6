/**
 * From a pipe or a socket into the queue: reads no faster than the disk stores,
 * and lets go of nothing that it has read.
 */

import { ClosedError, QueueFileError } from "../base/errors.ts";
import type { Clock } from "../base/ports.ts";
import { restUnlessAborted } from "../base/waits.ts";
import type { PacketSplitter } from "./splitter.ts";

/** The default capacity of a Linux pipe; what one read brings becomes one transaction. */
const READ_BYTES = 64 * 1024;
/** A full or busy disk is asked again after this. */
const RETRY_MS = 1000;
/** A wait for the queue is worth a line after twice this. */
const SLOW_STORE_MS = 1000;
/** All that is known of it then. */
export const SLOW_STORE = "the queue is full, or its disk or database is slow";

/** In two steps, so that no pause of this process is taken for a wait. */
export function whenStoreIsSlow(clock: Clock, tell: () => void): () => void {
  let cancel = clock.setTimer(SLOW_STORE_MS, () => {
    cancel = clock.setTimer(SLOW_STORE_MS, tell);
  });
  return () => cancel();
}

/** One transaction; small ones keep the event loop responsive. */
const MAX_BATCH_PACKETS = 1000;
const MAX_BATCH_BYTES = 1024 * 1024;
/** So that a nearly full queue takes some packets rather than waiting for a large gap. */
const BATCHES_PER_QUEUE = 4;

/** Where bytes come from: `Deno.stdin`, a connection, a file. */
export interface ByteSource {
  /** `null` at the end. */
  read(buffer: Uint8Array): Promise<number | null>;
  /** Resolves once a read would not wait. Without it a read that was begun may wait for ever. */
  readonly untilReadable?: (() => Promise<void>) | undefined;
}

interface BatchLimits {
  readonly maxBatchPackets: number;
  /** A larger packet goes alone. */
  readonly maxBatchBytes: number;
}

export interface InputPumpOptions extends BatchLimits {
  readonly source: ByteSource;
  readonly splitter: PacketSplitter;
  /**
   * Stores packets in one transaction; resolves once they are on disk. The signal
   * ends a wait for room.
   */
  readonly store: (packets: readonly Uint8Array[], signal: AbortSignal) => Promise<unknown>;
  /**
   * Whether that is still possible. Once it is not, nothing is read any more from a source that
   * says when it is readable: what is there is left to whoever reads it next.
   *
   * @default {() => true}
   */
  readonly isOpen?: () => boolean;
  /**
   * Whether the end of the source ends its last packet. If not, one that is not whole by then
   * is not stored and stays unfinished, also a line without its newline.
   *
   * @default {true}
   */
  readonly endCompletes?: boolean;
  readonly clock: Clock;
  /** Told what a person may want to know about the queue, */
  readonly onTrouble: (words: string) => void;
  /** and about the input. */
  readonly onDoubt: (words: string) => void;
}

/** What one transaction may hold for a queue of this size. */
export function batchLimitsFor(
  { maxPackets, maxBytes }: { readonly maxPackets: number; readonly maxBytes: number },
): BatchLimits {
  return {
    maxBatchPackets: Math.min(MAX_BATCH_PACKETS, Math.ceil(maxPackets / BATCHES_PER_QUEUE)),
    maxBatchBytes: Math.min(MAX_BATCH_BYTES, Math.ceil(maxBytes / BATCHES_PER_QUEUE)),
  };
}

export class InputPump {
  readonly #options: InputPumpOptions;
  readonly #buffer = new Uint8Array(READ_BYTES);
  readonly #givingUp = new AbortController();
  #stopped = false;
  #ended = false;
  #reading = false;
  #sourceEnded = false;
  #storing: Promise<void> = Promise.resolve();
  #onRead = Promise.withResolvers<void>();
  #doubted = false;
  /** Packets too large are told of when they are 1, 2, 4, 8 … */
  #nextOversize = 1;
  #storedPackets = 0;
  #unstoredPackets = 0;

  constructor(options: InputPumpOptions) {
    this.#options = options;
  }

  get storedPackets(): number {
    return this.#storedPackets;
  }

  /** Packets that were read and are not on disk. */
  get unstoredPackets(): number {
    return this.#unstoredPackets;
  }

  /**
   * Whether everything that came from the source is on disk, and it has ended in order.
   *
   * @param hasEnded Whether its end is all that is left to read. Asked where that was not read
   *   yet, and nothing is being read.
   */
  isAllStored(hasEnded: () => boolean): boolean {
    const { fault, unfinishedBytes } = this.#options.splitter;
    if (fault !== undefined || unfinishedBytes > 0 || this.#unstoredPackets > 0) return false;
    return this.#sourceEnded || (!this.#reading && hasEnded());
  }

  get unfinishedBytes(): number {
    return this.#options.splitter.unfinishedBytes;
  }

  /**
   * Begins no further read, but those that make whole the packet that was read in part. What a
   * read under way brings is stored as long as the queue is open.
   */
  stop(): void {
    this.#stopped = true;
  }

  /** Ends a wait for room in the queue, or for the disk: what waits stays unstored. */
  giveUp(): void {
    this.stop();
    this.#givingUp.abort(new ClosedError("The input was ended before everything was stored."));
  }

  /** Resolves once what has been read so far is stored, or cannot be. */
  async stored(): Promise<void> {
    // It does not wait for more: what it brings is about to be here.
    if (this.#reading && this.#options.source.untilReadable !== undefined) {
      await this.#onRead.promise;
    }
    await this.#storing.catch(() => {});
  }

  /** The same, and before that what has been read is whole, or its input has ended. */
  async whole(): Promise<void> {
    await this.stored();
    while (this.#options.splitter.missingBytes > 0 && !this.#ended) {
      await this.#onRead.promise;
      await this.stored();
    }
  }

  /**
   * Reads and stores until the input ends or `stop` is called.
   *
   * @throws {FramingError} The input is not what its framing promises; the packets before that
   *   are stored.
   * @throws {QueueFileError} The queue cannot be written, and waiting will not help.
   * @throws {QueueFullError} The queue is full, and is not to wait for room.
   * @throws {ClosedError} The queue was closed, or `giveUp` called, before everything
   *   was stored.
   */
  async run(): Promise<void> {
    try {
      while (await this.#readOnce()) {
        this.#onRead.resolve();
        this.#onRead = Promise.withResolvers();
      }
    } finally {
      this.#ended = true;
      this.#onRead.resolve();
    }
  }

  /** @returns Whether there is more to read. */
  async #readOnce(): Promise<boolean> {
    const { source, splitter, endCompletes = true, isOpen = () => true } = this.#options;
    // What was read beyond the end of a packet would be lost.
    const most = this.#stopped ? splitter.missingBytes : READ_BYTES;
    if (most === 0) return false;
    await source.untilReadable?.();
    if (source.untilReadable !== undefined && !isOpen()) return false;
    const buffer = this.#buffer.subarray(0, most);
    this.#reading = true;
    const length = await source.read(buffer);
    this.#reading = false;
    this.#sourceEnded = length === null;
    if (length === null && !endCompletes) return false;
    const packets = length === null ? splitter.end() : splitter.push(buffer.subarray(0, length));
    this.#storing = this.#store(packets);
    await this.#storing;
    this.#sayDoubts();
    if (splitter.fault !== undefined) throw splitter.fault;
    return length !== null;
  }

  #sayDoubts(): void {
    const { splitter, onDoubt } = this.#options;
    const doubt = this.#doubted ? undefined : splitter.doubt;
    const { oversizeWords } = splitter;
    if (doubt !== undefined) {
      this.#doubted = true;
      onDoubt(doubt);
    }
    if (oversizeWords !== undefined && splitter.oversizePackets >= this.#nextOversize) {
      while (splitter.oversizePackets >= this.#nextOversize) this.#nextOversize *= 2;
      onDoubt(oversizeWords);
    }
  }

  async #store(packets: readonly Uint8Array[]): Promise<void> {
    this.#unstoredPackets = packets.length;
    for (let from = 0; from < packets.length;) {
      const to = this.#batchEnd(packets, from);
      await this.#storeBatch(packets.slice(from, to));
      this.#storedPackets += to - from;
      this.#unstoredPackets -= to - from;
      from = to;
    }
  }

  #batchEnd(packets: readonly Uint8Array[], from: number): number {
    const { maxBatchPackets, maxBatchBytes } = this.#options;
    const last = Math.min(packets.length, from + maxBatchPackets);
    let bytes = 0;
    let to = from;
    for (; to < last; to++) {
      bytes += packets[to]?.length ?? 0;
      if (bytes > maxBatchBytes && to > from) break;
    }
    return to;
  }

  /** A full disk is waited out: the producer has no other copy of these bytes. */
  async #storeBatch(batch: readonly Uint8Array[]): Promise<void> {
    const { clock, onTrouble } = this.#options;
    const { signal } = this.#givingUp;
    const cancelNotice = whenStoreIsSlow(clock, () => {
      onTrouble(`${SLOW_STORE}; the producer has to wait`);
    });
    let trouble: string | undefined;
    try {
      for (;;) {
        try {
          await this.#options.store(batch, signal);
          if (trouble !== undefined) onTrouble("the queue takes packets again");
          return;
        } catch (error) {
          if (!isPassing(error) || signal.aborted) throw error;
          cancelNotice();
          if (trouble !== error.reason) {
            onTrouble(`${error.message} Trying again every second; the producer has to wait.`);
          }
          trouble = error.reason;
        }
        await restUnlessAborted(clock, RETRY_MS, signal);
        signal.throwIfAborted();
      }
    } finally {
      cancelNotice();
    }
  }
}

function isPassing(error: unknown): error is QueueFileError {
  return error instanceof QueueFileError &&
    (error.reason === "disk-full" || error.reason === "busy");
}

/**
 * The outgoing side of one connection: packets, and what the session says between and
 * behind them.
 *
 * Invariants:
 * 1. One write at a time; what it did not take goes first with the next one.
 * 2. Everything goes out in the order in which it was given, and has its place in the
 *    ledger before the kernel gets it.
 * 3. A heartbeat and the goodbye begin where every packet is written to its end.
 * 4. The goodbye goes out once everything else is confirmed, and our FIN behind it.
 *    Nothing goes out behind our FIN.
 * 5. A write that fails, or takes nothing, is the last one.
 */

import { WireError } from "../base/errors.ts";
import type { Clock, PacketBatch, Wire } from "../base/ports.ts";
import type { Heartbeats } from "./heartbeats.ts";
import type { Ledger } from "./ledger.ts";
import type { WatchedTime } from "./liveness.ts";
import type { Debt } from "./owed.ts";

/** Batches are coalesced into writes of at most this size; larger ones go alone. */
const WRITE_BYTES = 64 * 1024;
/** The same where nobody stores, who would have to wait for it: each write has its price. */
const LONG_WRITE_BYTES = 256 * 1024;

/**
 * A kernel that takes all there is, as on a fast path with a backlog, would leave commits, timers
 * and other connections nothing before the backlog is gone. So they get a turn now and then. Where
 * packets were stored in it, writing goes on until as many are written, so that the queue does not
 * grow, and for a part of the time that it took, so that a backlog shrinks.
 */
const SHARE = 0.1;
/**
 * Where nobody has stored for a while: what others take then is mostly our own reading and
 * removing. Not each turn of theirs ends a commit, so that one alone says nothing.
 */
const TURN_WITH_NOTHING_STORED_MS = 2;
const NOTHING_STORED_FOR_MS = 100;
/** A turn that took long once is no reason for one that long. */
const MAX_TURN_MS = 20;
/**
 * So many connections of a process write now, by whose time they go: they have a turn together.
 * With one each, a hundred backlogs would take the loop for a fifth of a second at a time.
 */
const writersOf = new WeakMap<Clock, { connections: number }>();
/** So much at least, and so much at most: a clock may stand still. */
const MIN_TURN_BYTES = WRITE_BYTES;
const MAX_TURN_BYTES = 4 * 1024 * 1024;

export interface OutgoingOptions {
  readonly wire: Wire;
  readonly clock: Clock;
  readonly ledger: Ledger;
  readonly heartbeats: Heartbeats | undefined;
  /** By which it counts since when an answer is due. */
  readonly watched: WatchedTime;
  /** Any byte of the peer, since bytes of a packet went out that none has followed. */
  readonly response: Debt;
  /** What to say before our FIN; empty: nothing. */
  readonly goodbye: Uint8Array;
  /** Bytes were taken where everything was acknowledged before, or all there is was taken. */
  readonly onWritten: () => void;
  readonly onFailed: (error: unknown) => void;
  readonly sendFin: () => void;
  /** The last packet in the queue: it grows as others store. */
  readonly lastId: () => number;
}

type Part = Pick<PacketBatch, "bytes" | "ownsMemory"> & {
  /** Left out: it is no packet's. */
  readonly ends?: PacketBatch["ends"];
};

/** Stands in the place of what was taken, so that its memory is nobody's. */
const TAKEN: Part = { bytes: new Uint8Array(0) };
/** So many of them may stand there, or as many as there are parts behind them. */
const MAX_TAKEN_PARTS = 32;

export class Outgoing {
  readonly #options: OutgoingOptions;
  /** Not yet handed to `write`, from `#head` on. */
  #parts: Part[] = [];
  #head = 0;
  #buffer = new Uint8Array(0);
  #writing = false;
  /** Those that write now, this one among them. */
  readonly #writers: { connections: number };
  #writtenInTurnBytes = 0;
  #turnFromMs = 0;
  /** How long this turn of ours may be. */
  #turnMs = TURN_WITH_NOTHING_STORED_MS;
  #lastId: number;
  /** So many packets were stored before this turn, and not as many written in it. */
  #owedPackets = 0;
  #storedAtMs = -Infinity;
  /** So it begins: the first packets may be those of a backlog. */
  #nobodyStores = true;
  #failed = false;
  #finishing = false;
  #finSentAtMs: number | undefined;
  #takenAtMs: number;

  constructor(options: OutgoingOptions) {
    this.#options = options;
    this.#takenAtMs = options.clock.nowMs();
    this.#lastId = options.lastId();
    let writers = writersOf.get(options.clock);
    if (writers === undefined) writersOf.set(options.clock, writers = { connections: 0 });
    this.#writers = writers;
  }

  /** Whether a write has not returned. */
  get writing(): boolean {
    return this.#writing;
  }

  get finSentAtMs(): number | undefined {
    return this.#finSentAtMs;
  }

  send(batches: readonly PacketBatch[]): void {
    if (this.#finishing) throw new TypeError("send() after finish()");
    for (const batch of batches) {
      this.#options.ledger.assignBatch(batch.firstId, batch.ends);
      this.#parts.push(batch);
    }
    if (!this.#writing) void this.#pump();
  }

  /** Sends a heartbeat if it is due. Says in how many milliseconds the next one may be. */
  beat(nowMs: number): number {
    const { heartbeats, ledger } = this.#options;
    if (heartbeats === undefined || this.#finishing || this.#failed) return Infinity;
    // What is under way is watched already, and its end is the begin of the quiet.
    if (ledger.inFlightBytes > 0) return Infinity;
    const dueInMs = heartbeats.dueInMs(nowMs, this.#takenAtMs);
    if (dueInMs > 0) return dueInMs;
    heartbeats.sent(this.#options.watched.at(nowMs));
    this.#insert(heartbeats.bytes);
    return Infinity;
  }

  /**
   * Takes no more packets; our FIN goes out behind the last one, and behind the goodbye.
   *
   * @param inOrder Everything that was sent is confirmed: without that there is no goodbye.
   */
  finish(inOrder: boolean): void {
    if (this.#finishing) return;
    this.#finishing = true;
    const { goodbye, ledger } = this.#options;
    const saysGoodbye = inOrder && ledger.inFlightBytes === 0 && !this.#failed;
    if (saysGoodbye && goodbye.length > 0) this.#insert(goodbye);
    this.#sendFin();
  }

  /** The connection has failed: nothing more goes out. */
  stop(): void {
    this.#failed = true;
  }

  drop(): void {
    this.#parts = [];
    this.#head = 0;
  }

  #insert(bytes: Uint8Array): void {
    this.#options.ledger.insert(bytes.length);
    this.#parts.push({ bytes });
    if (!this.#writing) void this.#pump();
  }

  /** Owns the write side. */
  async #pump(): Promise<void> {
    const { wire, clock, ledger, watched, response, onWritten, onFailed } = this.#options;
    this.#writing = true;
    this.#writers.connections++;
    this.#beginTurn();
    try {
      while (!this.#failed) {
        const isPacket = this.#parts[this.#head]?.ends !== undefined;
        const chunk = this.#nextChunk();
        if (chunk === undefined) break;
        for (let offset = 0; offset < chunk.length && !this.#failed;) {
          const takenBytes = await wire.write(chunk.subarray(offset));
          if (takenBytes < 1) throw new WireError("UNKNOWN", "A write that works takes something.");
          const wasIdle = ledger.oldestUnackedAtMs === undefined;
          this.#takenAtMs = clock.nowMs();
          ledger.wrote(takenBytes, this.#takenAtMs);
          if (isPacket) response.sinceMs ??= watched.at(this.#takenAtMs);
          // The next write may wait for room: until then somebody must watch for answers.
          if (wasIdle) onWritten();
          offset += takenBytes;
          this.#writtenInTurnBytes += takenBytes;
          if (this.#isTurnOver()) await this.#leaveTurn();
        }
      }
    } catch (error) {
      this.#failed = true;
      this.#endWriting();
      onFailed(error);
      return;
    }
    this.#endWriting();
    this.#sendFin();
    onWritten();
  }

  #endWriting(): void {
    this.#writing = false;
    this.#writers.connections--;
  }

  #isTurnOver(): boolean {
    if (this.#writtenInTurnBytes < MIN_TURN_BYTES) return false;
    const ms = this.#takenAtMs - this.#turnFromMs;
    if (ms >= this.#partOf(MAX_TURN_MS)) return true;
    if (this.#writtenInTurnBytes >= this.#partOf(MAX_TURN_BYTES)) return true;
    return ms >= this.#turnMs && this.#owedPackets <= 0;
  }

  async #leaveTurn(): Promise<void> {
    const { clock } = this.#options;
    const leftAtMs = clock.nowMs();
    await new Promise<void>((resolve) => clock.defer(resolve));
    this.#beginTurn();
    if (!this.#nobodyStores) this.#turnMs = this.#partOf(SHARE * (this.#turnFromMs - leftAtMs));
  }

  #partOf(all: number): number {
    return all / this.#writers.connections;
  }

  #beginTurn(): void {
    const { clock, lastId } = this.#options;
    this.#turnFromMs = clock.nowMs();
    this.#writtenInTurnBytes = 0;
    this.#owedPackets = lastId() - this.#lastId;
    if (this.#owedPackets > 0) this.#storedAtMs = this.#turnFromMs;
    this.#lastId += this.#owedPackets;
    const nobodyStored = this.#nobodyStores;
    this.#nobodyStores = this.#turnFromMs - this.#storedAtMs >= NOTHING_STORED_FOR_MS;
    if (this.#nobodyStores) this.#turnMs = this.#partOf(TURN_WITH_NOTHING_STORED_MS);
    else if (nobodyStored) this.#turnMs = 0;
  }

  #nextChunk(): Uint8Array | undefined {
    const chunk = this.#takeChunk();
    // Also where there is always more, so that the list is never empty.
    if (this.#head > MAX_TAKEN_PARTS && this.#head * 2 > this.#parts.length) {
      this.#parts = this.#parts.slice(this.#head);
      this.#head = 0;
    }
    return chunk;
  }

  /** One large batch as it is, or small ones coalesced. */
  #takeChunk(): Uint8Array | undefined {
    const first = this.#parts[this.#head];
    if (first === undefined) {
      this.drop();
      return undefined;
    }
    const next = this.#parts[this.#head + 1];
    const isAlone = first.ends === undefined || next?.ends === undefined;
    const nobodyWaits = this.#nobodyStores && this.#writers.connections === 1;
    const maxBytes = nobodyWaits ? LONG_WRITE_BYTES : WRITE_BYTES;
    if (isAlone || first.bytes.length >= maxBytes) {
      this.#take(first);
      return first.bytes;
    }
    const buffer = this.#bufferFor(maxBytes);
    let filledBytes = 0;
    for (;;) {
      const part = this.#parts[this.#head];
      if (part?.ends === undefined) break;
      if (filledBytes + part.bytes.length > maxBytes) break;
      buffer.set(part.bytes, filledBytes);
      filledBytes += part.bytes.length;
      this.#take(part);
      // A backlog that is read makes 100 MB of garbage a second, and the runtime waits with it.
      const { buffer: memory } = part.bytes;
      if (part.ownsMemory && memory instanceof ArrayBuffer) memory.transfer(0);
    }
    return buffer.subarray(0, filledBytes);
  }

  /** @throws {RangeError} The memory was given back before: nothing would stand where packets do. */
  #take({ bytes, ends }: Part): void {
    this.#parts[this.#head++] = TAKEN;
    if (ends === undefined) return;
    if (bytes.length !== ends.at(-1)) {
      throw new RangeError(
        `Packets of ${ends.at(-1)} bytes are to go out, and ${bytes.length} are there.`,
      );
    }
    this.#owedPackets -= ends.length;
  }

  /** Of a process with many senders most have little to write at a time. */
  #bufferFor(maxBytes: number): Uint8Array {
    let bytes = 0;
    for (let i = this.#head; i < this.#parts.length && bytes <= WRITE_BYTES; i++) {
      bytes += this.#parts[i]?.bytes.length ?? 0;
    }
    const wantedBytes = bytes > WRITE_BYTES ? maxBytes : WRITE_BYTES;
    if (this.#buffer.length < wantedBytes) this.#buffer = new Uint8Array(wantedBytes);
    return this.#buffer;
  }

  #sendFin(): void {
    if (!this.#finishing || this.#finSentAtMs !== undefined || this.#writing) return;
    if (this.#failed) return;
    this.#finSentAtMs = this.#options.clock.nowMs();
    this.#options.sendFin();
  }
}

/**
 * The right to send from a spool: a process has it for all queues, by the lock of the file, and
 * gives it to one sender for each of them.
 */

import { QueueLockedError } from "../base/errors.ts";
import type { Allocate, Clock } from "../base/ports.ts";
import { SenderLock } from "../queue/sender_lock.ts";
import { diskFull } from "../queue/sqlite/file_error.ts";
import type { Tenure } from "../queue/tenure.ts";
import { Reports } from "./reports.ts";

/** The lock file is looked at, and a reserve that is not whole is seen to, this often. */
const LOOK_MS = 1000;

/** A sender's queue: its number in the spool, and its name for people. */
interface SentQueue {
  readonly queue: number;
  readonly address: string;
}

/**
 * From which spools this process sends, by their paths. The last sender gives the lock back once it
 * has closed its queue; by then somebody may have opened the spool anew.
 */
const spools = new Map<string, SentSpool>();

/**
 * Takes the right to send from a queue of a spool.
 *
 * @param path The spool's path without symbolic links.
 * @throws {QueueLockedError} Another process sends from this spool, or this one from the queue.
 */
export async function takeTenure(
  path: string,
  queue: SentQueue,
  clock: Clock,
  allocate?: Allocate,
): Promise<Tenure> {
  let spool = spools.get(path);
  if (spool === undefined) spools.set(path, spool = new SentSpool(path));
  return await spool.take(queue, clock, allocate);
}

/**
 * Sees to it that packets do not take the room that the next removal needs, whichever queue of
 * the spool it is of.
 *
 * @param path The spool's path without symbolic links.
 * @throws {QueueFileError} The disk is full.
 */
export function checkSpare(path: string): void {
  spools.get(path)?.checkSpare();
}

/** The lock of a spool, and who in this process has which of its queues. */
class SentSpool {
  readonly #path: string;
  readonly #senders = new Set<number>();
  #lock: Promise<SenderLock> | undefined;
  #held: HeldSpool | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  async take(
    { queue, address }: SentQueue,
    clock: Clock,
    allocate: Allocate | undefined,
  ): Promise<Tenure> {
    if (this.#senders.has(queue)) throw new QueueLockedError(address, Deno.pid, "queue", true);
    this.#senders.add(queue);
    const locking = this.#lock ??= SenderLock.acquire(this.#path, clock, allocate);
    try {
      const lock = await locking;
      this.#held ??= new HeldSpool(this.#path, lock, clock);
      return new SpoolTenure(this.#held, queue, () => this.#release(queue));
    } catch (error) {
      // Another sender may be trying again by now.
      if (this.#lock === locking) this.#lock = undefined;
      this.#release(queue);
      if (!(error instanceof QueueLockedError)) throw error;
      throw new QueueLockedError(address, error.holderPid, "spool");
    }
  }

  checkSpare(): void {
    this.#held?.checkSpare();
  }

  #release(queue: number): void {
    this.#senders.delete(queue);
    if (this.#senders.size > 0) return;
    spools.delete(this.#path);
    this.#held?.close();
  }
}

/** What senders share that have the lock of a spool. */
class HeldSpool implements NonNullable<Tenure["spare"]> {
  readonly lock: SenderLock;
  readonly misplaced: () => string | undefined;
  readonly #path: string;
  readonly #clock: Clock;
  #reports: Reports | undefined;
  #spareIsOut = false;
  #restoredAtMs = -Infinity;

  constructor(path: string, lock: SenderLock, clock: Clock) {
    this.lock = lock;
    this.#path = path;
    this.#clock = clock;
    this.misplaced = atMostEach(LOOK_MS, clock, () => {
      const words = lock.misplaced();
      if (words === undefined) this.#reports?.restore();
      return words;
    });
  }

  report(queue: number, text: string): void {
    this.#reports ??= new Reports(this.#path);
    this.#reports.write(queue, text);
  }

  endReport(queue: number): void {
    this.#reports?.remove(queue);
  }

  get reserveBytes(): number {
    return this.lock.reserveBytes;
  }

  get wantedReserveBytes(): number {
    return this.lock.wantedReserveBytes;
  }

  /** Once one queue has given the reserve up, it is there for each. */
  releaseReserve(): boolean {
    if (this.lock.releaseReserve()) this.#spareIsOut = true;
    return this.#spareIsOut;
  }

  restoreReserve(): boolean {
    this.#restoredAtMs = this.#clock.nowMs();
    const isWhole = this.lock.restoreReserve();
    if (isWhole) this.#spareIsOut = false;
    return isWhole;
  }

  checkSpare(): void {
    if (!this.#spareIsOut) return;
    if (this.#clock.nowMs() - this.#restoredAtMs >= LOOK_MS && this.restoreReserve()) return;
    throw diskFull(this.#path);
  }

  close(): void {
    this.#reports?.close();
    this.lock.release();
  }
}

class SpoolTenure implements Tenure {
  /** Nobody counts the senders of a file. */
  readonly epoch = 0;
  readonly #spool: HeldSpool;
  readonly #queue: number;
  readonly #release: () => void;
  #isHeld = true;

  constructor(spool: HeldSpool, queue: number, release: () => void) {
    this.#spool = spool;
    this.#queue = queue;
    this.#release = release;
  }

  get spare(): HeldSpool {
    return this.#spool;
  }

  validForMs(): number {
    return this.#isHeld ? this.#spool.lock.validForMs() : 0;
  }

  /** It never lapses. */
  subscribeLapsed(): () => void {
    return () => {};
  }

  /** Nobody takes it over; see {@linkcode Tenure.misplaced}. */
  subscribeLost(): () => void {
    return () => {};
  }

  misplaced(): string | undefined {
    return this.#isHeld ? this.#spool.misplaced() : undefined;
  }

  publish(text: string): void {
    if (this.#isHeld) this.#spool.report(this.#queue, text);
  }

  release(): void {
    if (!this.#isHeld) return;
    this.#isHeld = false;
    this.#spool.endReport(this.#queue);
    this.#release();
  }
}

/** Asks at most so often, and gives the last answer in between, also to a thousand queues. */
function atMostEach<T>(intervalMs: number, clock: Clock, ask: () => T): () => T {
  let askedAtMs = -Infinity;
  let answer: T;
  return () => {
    const nowMs = clock.nowMs();
    if (nowMs - askedAtMs >= intervalMs) {
      askedAtMs = nowMs;
      answer = ask();
    }
    return answer;
  };
}

/**
 * When the transactions of a spool begin: what its queues have to store and to remove is put
 * together for a moment, because one sync of the disk is enough for all of it.
 */

import type { Clock } from "../base/ports.ts";
import { LoopPauses } from "../queue/commit/loop_pauses.ts";
import type { LogSync } from "../queue/log_sync.ts";
import type { Outcome, SharedTransactions, Work } from "./shared_transactions.ts";

/** A transaction holds the event loop for as long as it takes: more waits for the next one. */
const MAX_BYTES = 1024 * 1024;
/** Measured: those of a thousand queues take 0.1 s. */
const MAX_JOBS = 128;
/**
 * While many queues are busy, transactions begin this far apart. A packet waits half of it on
 * average; a thousand queues with a packet a second each share two in three of their commits.
 */
const BUSY_GAP_MS = 3;
/** So many queues that committed in a tenth of a second are many. */
const MANY_QUEUES = 8;
const COUNTED_FOR_MS = 100;

/** One queue's part of a transaction. */
export interface GroupWork<T> extends Work<T> {
  /** Whose it is. */
  readonly owner: object;
  /** Of the packets that it stores. */
  readonly bytes: number;
  /** Whether somebody waits until the disk has it. */
  readonly isAwaited: (value: T) => boolean;
}

interface Job {
  readonly work: GroupWork<unknown>;
  readonly settle: (outcome: Outcome<unknown>) => void;
}

interface Ended {
  readonly settle: Job["settle"];
  readonly outcome: Outcome<unknown>;
}

interface GroupCommitOptions {
  readonly transactions: SharedTransactions;
  readonly log: LogSync;
  readonly clock: Clock;
}

export class GroupCommit {
  readonly #options: GroupCommitOptions;
  readonly #pauses: LoopPauses;
  #jobs: Job[] = [];
  #isScheduled = false;
  #beganMs = -Infinity;
  #busy = new Set<object>();
  #countedFromMs = -Infinity;
  #isBusy = false;

  constructor(options: GroupCommitOptions) {
    this.#options = options;
    this.#pauses = new LoopPauses(options.clock);
  }

  /**
   * Has work done in one of the next transactions, in the order of the calls.
   *
   * @returns What it has given, once it is on the disk.
   * @throws What it has thrown; what went wrong when it was committed.
   */
  run<T>(work: GroupWork<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#jobs.push({
        // The outcome that comes back is that of this very work.
        work: work as GroupWork<unknown>,
        settle: (outcome) => outcome.done ? resolve(outcome.value as T) : reject(outcome.error),
      });
      this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#isScheduled || this.#jobs.length === 0) return;
    this.#isScheduled = true;
    const { clock } = this.#options;
    const waitMs = this.#isBusy ? this.#beganMs + BUSY_GAP_MS - clock.nowMs() : 0;
    const run = () => void this.#run();
    if (waitMs > 0) clock.setTimer(waitMs, run);
    else this.#pauses.schedule(run);
  }

  async #run(): Promise<void> {
    this.#beganMs = this.#options.clock.nowMs();
    const jobs = this.#take();
    try {
      await this.#commit(jobs);
    } catch (error) {
      for (const { settle } of jobs) settle({ done: false, error });
    }
    this.#isScheduled = false;
    this.#schedule();
  }

  async #commit(jobs: readonly Job[]): Promise<void> {
    const { transactions, log, clock } = this.#options;
    log.begin();
    const outcomes = transactions.share(jobs.map(({ work }) => work));
    this.#pauses.take(clock.nowMs() - this.#beganMs);
    const awaited: Ended[] = [];
    let bytes = 0;
    for (const [i, { work, settle }] of jobs.entries()) {
      const outcome = outcomes[i];
      if (outcome === undefined) {
        throw new RangeError("a commit has said nothing of one of its parts");
      }
      if (outcome.done && work.isAwaited(outcome.value)) {
        awaited.push({ settle, outcome });
        bytes += work.bytes;
      } else {
        settle(outcome);
      }
    }
    const failure = await this.#toDisk(awaited.length > 0, bytes);
    for (const { settle, outcome } of awaited) settle(failure ?? outcome);
  }

  /** @returns What went wrong. */
  async #toDisk(isAwaited: boolean, bytes: number): Promise<Outcome<never> | undefined> {
    const { transactions, log } = this.#options;
    if (!log.isInThreads) {
      if (isAwaited) log.take(transactions.lastCommitMs, bytes);
      return undefined;
    }
    if (!isAwaited) {
      log.syncLater();
      return undefined;
    }
    try {
      await log.synced(undefined, bytes);
      return undefined;
    } catch (error) {
      return { done: false, error };
    }
  }

  /** The next of them, as many as one transaction should have. */
  #take(): Job[] {
    let bytes = 0, count = 0;
    for (const { work } of this.#jobs) {
      if (count > 0 && (count === MAX_JOBS || bytes + work.bytes > MAX_BYTES)) break;
      bytes += work.bytes;
      count++;
      this.#busy.add(work.owner);
    }
    if (this.#beganMs - this.#countedFromMs >= COUNTED_FOR_MS) {
      this.#isBusy = this.#busy.size >= MANY_QUEUES;
      this.#countedFromMs = this.#beganMs;
      this.#busy.clear();
    }
    return this.#jobs.splice(0, count);
  }
}

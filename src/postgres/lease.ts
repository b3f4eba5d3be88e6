/**
 * Who sends from a queue, without clocks that agree.
 *
 * The holder counts `beat` up in the database, again and again. Its right is valid until a
 * time by its own clock: `ttlMs` after the last beat that worked was *asked for*, less a
 * margin. Whoever wants it watches: a beat that has not changed for `ttlMs`, and a little
 * more for clocks that run at different speeds, is that of a holder whose right is over.
 * It is taken by comparing: nothing has changed since it was last seen.
 *
 * A right that is over is not lost: as long as nobody has taken it, the next beat that works
 * makes it valid again. When somebody has, it is lost for good. Removals do not rest on any
 * of this: they are refused in their own transaction once the epoch has changed.
 *
 * @module
 */

import type { LeaseStats } from "../base/cluster_stats.ts";
import { FencedError, messageOf, QueueLockedError } from "../base/errors.ts";
import type { Tenure } from "../queue/tenure.ts";

/** How many beats there are in one `ttlMs`. */
const BEATS = 5;
/** Of `ttlMs`: how much earlier the holder ends than it would have to. */
const MARGIN = 0.1;
/** How much longer than `ttlMs` others wait: two clocks differ by no more than this. */
const PATIENCE = 1.02;
/** The database is asked so often by those who wait, and after a beat that failed. */
const LOOK_MS = 250;

/** The row of a lease. */
export interface LeaseRow {
  /** Which tenure it is. */
  readonly epoch: number;
  /** Grows as long as the holder lives. */
  readonly beat: number;
  /** Who has it; `undefined`: nobody. */
  readonly holder: string | undefined;
}

/** The lease in the database. Each call may fail, or come late. */
export interface LeaseTable {
  /** How it stands. */
  look(): Promise<LeaseRow>;
  /** Takes it, if it is still as it was seen. Returns the epoch; `undefined`: it has changed. */
  take(seen: LeaseRow, holder: string): Promise<number | undefined>;
  /** Counts the beat up. Returns whether the epoch is still the present one. */
  beat(epoch: number, notice: string): Promise<boolean>;
  /** Gives it up. */
  leave(epoch: number): Promise<void>;
  /** Ends the connection. */
  close(): void;
}

/** The time that a lease goes by. */
export interface LeaseClock {
  /** Monotonic milliseconds that go on while the machine is suspended. */
  nowMs(): number;
  /** Calls back once. Returns what cancels it. */
  setTimer(delayMs: number, callback: () => void): () => void;
}

/** How a lease is taken and kept. */
export interface LeaseOptions {
  /** Where it is. */
  readonly table: LeaseTable;
  /** Time. */
  readonly clock: LeaseClock;
  /** For how long a beat is good. */
  readonly ttlMs: number;
  /** Who takes it, for people. */
  readonly holder: string;
  /** The queue's address, for the words of an error. */
  readonly path: string;
  /** Whether another sender is waited for. */
  readonly waits: boolean;
  /** Told once, when another one is waited for, and when the database does not answer. */
  readonly tell: (words: string) => void;
  /** Ends the wait. */
  readonly signal?: AbortSignal | undefined;
}

/** The right to send, for a time. */
export class Lease implements Tenure {
  readonly epoch: number;
  readonly #options: LeaseOptions;
  /** When the last beat that has worked was asked for. */
  #beatAtMs: number;
  #validUntilMs: number;
  /** Whether those who want to know were told that it is over for now. */
  #hasLapsed = false;
  #lost: FencedError | undefined;
  #notice = "";
  #isReleased = false;
  #beating: Promise<boolean> | undefined;
  #cancelBeat = () => {};
  #cancelLapse = () => {};
  readonly #onLapsed = new Set<() => void>();
  readonly #onLost = new Set<(error: FencedError) => void>();

  private constructor(epoch: number, askedAtMs: number, options: LeaseOptions) {
    this.epoch = epoch;
    this.#options = options;
    this.#beatAtMs = askedAtMs;
    this.#validUntilMs = askedAtMs + this.#goodForMs;
    this.#watch();
    this.#beatIn(options.ttlMs / BEATS);
  }

  /**
   * Takes the lease, as soon as it can be.
   *
   * @throws {QueueLockedError} Another sender has it, and is not waited for.
   */
  static async take(options: LeaseOptions): Promise<Lease> {
    const { table, clock, ttlMs, path, waits, tell, signal } = options;
    // A name of this attempt: what becomes of one whose answer is lost is not known.
    let seen: { readonly row: LeaseRow; readonly sinceMs: number } | undefined;
    const told = new Set<string>();
    const tellOnce = (words: string) => {
      if (!told.has(words)) tell(words);
      told.add(words);
    };
    for (;;) {
      signal?.throwIfAborted();
      try {
        const askedAtMs = clock.nowMs();
        const row = await table.look();
        if (seen === undefined || !isSame(seen.row, row)) {
          // Not earlier than the answer: the beat may be as young as that.
          seen = { row, sinceMs: clock.nowMs() };
        }
        const isFree = row.holder === undefined;
        if (isFree || askedAtMs - seen.sinceMs >= ttlMs * PATIENCE) {
          const takenAtMs = clock.nowMs();
          const epoch = await table.take(row, options.holder);
          if (epoch !== undefined) return new Lease(epoch, takenAtMs, options);
          seen = undefined;
        } else if (!waits) {
          throw new QueueLockedError(path, undefined);
        } else tellOnce(`standing by: ${row.holder} sends from this queue`);
      } catch (error) {
        if (error instanceof QueueLockedError) throw error;
        if (error instanceof Error && error.name === "QueueFileError" && isFinal(error)) {
          throw error;
        }
        seen = undefined;
        tellOnce(`the lease cannot be looked at: ${messageOf(error)}`);
      }
      await rest(clock, Math.min(LOOK_MS, ttlMs / BEATS), signal);
    }
  }

  get #goodForMs(): number {
    return this.#options.ttlMs * (1 - MARGIN);
  }

  /** See {@linkcode Tenure.validForMs}. */
  validForMs(): number {
    if (this.#lost !== undefined || this.#isReleased) return 0;
    const leftMs = this.#validUntilMs - this.#options.clock.nowMs();
    // A process that was stopped has missed its timer.
    if (leftMs <= 0) this.#lapse();
    return leftMs;
  }

  /** How it stands. */
  stats(): LeaseStats {
    return {
      holder: this.#options.holder,
      epoch: this.epoch,
      beatAgeMs: Math.max(0, this.#options.clock.nowMs() - this.#beatAtMs),
      validForMs: Math.max(0, this.validForMs()),
    };
  }

  /** See {@linkcode Tenure.subscribeLapsed}. */
  subscribeLapsed(onLapsed: () => void): () => void {
    this.#onLapsed.add(onLapsed);
    return () => void this.#onLapsed.delete(onLapsed);
  }

  /** See {@linkcode Tenure.subscribeLost}. */
  subscribeLost(onLost: (error: FencedError) => void): () => void {
    if (this.#lost !== undefined) onLost(this.#lost);
    else this.#onLost.add(onLost);
    return () => void this.#onLost.delete(onLost);
  }

  /** Others read it with the next beat. */
  publish(text: string): void {
    this.#notice = text;
  }

  /** It has no file. */
  misplaced(): undefined {
    return undefined;
  }

  /**
   * Beats now; two at a time are one.
   *
   * @returns Whether it holds.
   * @throws {Error} The database has not answered.
   */
  renew(): Promise<boolean> {
    this.#beating ??= this.#beat().finally(() => this.#beating = undefined);
    return this.#beating;
  }

  /** Gives it up, so that the next sender need not wait. Idempotent. */
  async release(): Promise<void> {
    if (this.#isReleased) return;
    this.#isReleased = true;
    this.#cancelBeat();
    this.#cancelLapse();
    const { table } = this.#options;
    try {
      if (this.#lost === undefined) await table.leave(this.epoch);
    } catch {
      // Then the next sender waits until the beat has stood still.
    }
    table.close();
  }

  async #beat(): Promise<boolean> {
    const { clock, table } = this.#options;
    const askedAtMs = clock.nowMs();
    const holds = await table.beat(this.epoch, this.#notice);
    if (this.#isReleased) return holds;
    if (!holds) {
      this.#lose();
      return false;
    }
    this.#beatAtMs = Math.max(this.#beatAtMs, askedAtMs);
    this.#validUntilMs = Math.max(this.#validUntilMs, askedAtMs + this.#goodForMs);
    if (this.#validUntilMs > clock.nowMs()) this.#hasLapsed = false;
    this.#watch();
    return true;
  }

  #beatIn(delayMs: number): void {
    this.#cancelBeat = this.#options.clock.setTimer(delayMs, async () => {
      let nextMs = this.#options.ttlMs / BEATS;
      try {
        await this.renew();
      } catch {
        nextMs = Math.min(LOOK_MS, nextMs);
      }
      if (!this.#isReleased && this.#lost === undefined) this.#beatIn(nextMs);
    });
  }

  /** Calls those who want to know at the moment when it is over. */
  #watch(): void {
    this.#cancelLapse();
    if (this.#hasLapsed) return;
    const leftMs = this.#validUntilMs - this.#options.clock.nowMs();
    if (leftMs <= 0) return this.#lapse();
    this.#cancelLapse = this.#options.clock.setTimer(leftMs, () => this.#watch());
  }

  #lapse(): void {
    if (this.#hasLapsed) return;
    this.#hasLapsed = true;
    this.#cancelLapse();
    for (const onLapsed of [...this.#onLapsed]) onLapsed();
  }

  #lose(): void {
    if (this.#lost !== undefined) return;
    const { path } = this.#options;
    const error = this.#lost = new FencedError(
      `Queue ${path}: another sender has taken it over, because this one could not renew its ` +
        "right to send in time. Nothing is lost. Start it again: it waits for its turn.",
    );
    this.#lapse();
    for (const onLost of [...this.#onLost]) onLost(error);
    this.#onLost.clear();
  }
}

function isSame(a: LeaseRow, b: LeaseRow): boolean {
  return a.epoch === b.epoch && a.beat === b.beat && a.holder === b.holder;
}

/** Waiting does not make a queue, a right or a password. */
function isFinal(error: Error): boolean {
  const reason = "reason" in error ? error.reason : undefined;
  return reason === "not-a-queue" || reason === "newer-version" || reason === "read-only";
}

async function rest(
  clock: LeaseClock,
  delayMs: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const cancel = clock.setTimer(delayMs, resolve);
  signal?.addEventListener("abort", () => resolve(), { once: true });
  await promise;
  cancel();
}

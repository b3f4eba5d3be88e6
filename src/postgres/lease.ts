/**
 * Who sends from a queue, without clocks that agree.
 *
 * The holder counts `beat` up in the database, again and again. Its right is valid until a
 * time by its own clock: `ttlMs` after the last beat that worked was *asked for*, less a
 * margin. Whoever wants it watches: a beat that has not changed for `ttlMs`, and a little
 * more for clocks that run at different speeds, is that of a holder whose right is over.
 * Which `ttlMs` that is the holder says with its beat: who watches may have a shorter one.
 * It is taken by comparing: nothing has changed since it was last seen.
 *
 * A right that is over is not lost: as long as nobody has taken it, the next beat that works
 * makes it valid again. When somebody has, it is lost for good. Removals do not rest on any
 * of this: they are refused in their own transaction once another one has taken over.
 *
 * A database may go back to an earlier state: it was restored, or failed over to a standby that
 * did not have everything. Each holder draws a `tenure` that nobody else has, and says with
 * each beat which one was answered last. A database that does not know it has gone back, and
 * then the right is lost: what lies there under an id need not be what was read.
 */

import { restUnlessAborted, unlessAborted } from "../base/waits.ts";
import type { LeaseStats } from "../base/cluster_stats.ts";
import { type FencedError, messageOf, QueueLockedError } from "../base/errors.ts";
import type { Tenure } from "../queue/tenure.ts";
import { goneBack, STANDING_BY, takenOver } from "./errors.ts";

/** How many beats there are in one `ttlMs`. */
const BEATS = 5;
/** Of `ttlMs`: how much earlier the holder ends than it would have to. */
const MARGIN = 0.1;
/** How much longer than `ttlMs` others wait: two clocks differ by no more than this. */
const PATIENCE = 1.02;
/** The database is asked so often by those who wait, and after a beat that failed. */
const LOOK_MS = 250;

export interface LeaseRow {
  /** Which tenure it is. */
  readonly epoch: number;
  /** What its holder has drawn, and nobody else has; `undefined`: nobody ever held it. */
  readonly tenure: string | undefined;
  /** Grows as long as the holder lives. */
  readonly beat: number;
  /** Who has it; `undefined`: nobody. */
  readonly holder: string | undefined;
  /** For how long the holder takes a beat for good. */
  readonly ttlMs: number;
}

/** By what the database knows a holder. */
export interface HeldLease extends Pick<LeaseRow, "epoch" | "ttlMs"> {
  /** What the holder has drawn. */
  readonly tenure: string;
  /** The last beat that was answered: a database that knows fewer has gone back. */
  readonly beat: number;
}

/** The lease in the database. Each call may fail, or come late. */
export interface LeaseTable {
  look(): Promise<LeaseRow>;
  /** Takes it, if it is still as it was seen; `undefined`: it has changed. */
  take(
    seen: LeaseRow,
    holder: string,
    tenure: string,
    ttlMs: number,
  ): Promise<{ readonly epoch: number; readonly beat: number } | undefined>;
  /**
   * Counts the beat up.
   *
   * @returns The beat; `"taken"`: another one has begun; `"gone-back"`: the database does not
   *   know this tenure, or a beat that it has answered.
   */
  beat(
    held: HeldLease,
    notice: string,
  ): Promise<number | "taken" | "gone-back">;
  leave(held: HeldLease): Promise<void>;
  close(): void;
}

export interface LeaseClock {
  /** Monotonic milliseconds that go on while the machine is suspended. */
  nowMs(): number;
  /** Calls back once. Returns what cancels it. */
  setTimer(delayMs: number, callback: () => void): () => void;
}

export interface LeaseOptions {
  readonly table: LeaseTable;
  readonly clock: LeaseClock;
  /** For how long a beat is good. One whose holder says more is waited for longer. */
  readonly ttlMs: number;
  readonly holder: string;
  /** The queue's address, for the words of an error. */
  readonly path: string;
  /** Whether another sender is waited for. */
  readonly waits: boolean;
  /**
   * Told when another one is waited for, and when the database does not answer; again when that
   * changes.
   */
  readonly tell: (words: string) => void;
  readonly signal?: AbortSignal | undefined;
}

/** The right to send, for a time. */
export class Lease implements Tenure, HeldLease {
  readonly epoch: number;
  readonly tenure: string;
  readonly ttlMs: number;
  readonly #options: LeaseOptions;
  /** When the last beat that has worked was asked for. */
  #beatAtMs: number;
  #validUntilMs: number;
  /** Whether those who want to know were told that it is over for now. */
  #hasLapsed = false;
  #lost: FencedError | undefined;
  #notice = "";
  /** What the last beat has failed of. */
  #failure: string | null = null;
  #isReleased = false;
  #beat: number;
  #cancelBeat = () => {};
  #cancelLapse = () => {};
  readonly #onLapsed = new Set<() => void>();
  readonly #onRenewed = new Set<() => void>();
  readonly #onLost = new Set<(error: FencedError) => void>();

  private constructor(
    held: Omit<HeldLease, "ttlMs">,
    askedAtMs: number,
    options: LeaseOptions,
  ) {
    this.epoch = held.epoch;
    this.tenure = held.tenure;
    this.ttlMs = options.ttlMs;
    this.#beat = held.beat;
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
    let seen: { readonly row: LeaseRow; readonly sinceMs: number } | undefined;
    let told = "";
    const tellChange = (words: string) => {
      if (words !== told) tell(words);
      told = words;
    };
    for (;;) {
      signal?.throwIfAborted();
      try {
        const askedAtMs = clock.nowMs();
        // Whoever is to end waits for no database.
        const row = await unlessAborted(table.look(), signal);
        if (seen === undefined || !isSame(seen.row, row)) {
          // Not earlier than the answer: the beat may be as young as that.
          seen = { row, sinceMs: clock.nowMs() };
        }
        const isFree = row.holder === undefined;
        if (isFree || askedAtMs - seen.sinceMs >= Math.max(ttlMs, row.ttlMs) * PATIENCE) {
          const takenAtMs = clock.nowMs();
          // Drawn for this attempt: what becomes of one whose answer is lost is not known.
          const tenure = crypto.randomUUID();
          const taken = await table.take(row, options.holder, tenure, ttlMs);
          if (taken !== undefined) return new Lease({ ...taken, tenure }, takenAtMs, options);
          seen = undefined;
        } else if (!waits) {
          throw new QueueLockedError(path, undefined);
        } else tellChange(`${STANDING_BY}${row.holder} sends from this queue`);
      } catch (error) {
        signal?.throwIfAborted();
        if (error instanceof QueueLockedError) throw error;
        if (error instanceof Error && error.name === "QueueFileError" && isFinal(error)) {
          throw error;
        }
        seen = undefined;
        tellChange(`the lease cannot be looked at: ${messageOf(error)}`);
      }
      await restUnlessAborted(clock, Math.min(LOOK_MS, ttlMs / BEATS), signal);
    }
  }

  get #goodForMs(): number {
    return this.#options.ttlMs * (1 - MARGIN);
  }

  /** The last beat that was answered. */
  get beat(): number {
    return this.#beat;
  }

  /** Why it is lost; `undefined`: it is not. */
  get lost(): FencedError | undefined {
    return this.#lost;
  }

  validForMs(): number {
    if (this.#lost !== undefined || this.#isReleased) return 0;
    const leftMs = this.#validUntilMs - this.#options.clock.nowMs();
    // A process that was stopped has missed its timer.
    if (leftMs <= 0) this.#lapse();
    return leftMs;
  }

  stats(): LeaseStats {
    return {
      holder: this.#options.holder,
      epoch: this.epoch,
      beatAgeMs: Math.max(0, this.#options.clock.nowMs() - this.#beatAtMs),
      validForMs: Math.max(0, this.validForMs()),
      failure: this.#failure,
    };
  }

  subscribeLapsed(onLapsed: () => void): () => void {
    this.#onLapsed.add(onLapsed);
    return () => void this.#onLapsed.delete(onLapsed);
  }

  subscribeRenewed(onRenewed: () => void): () => void {
    this.#onRenewed.add(onRenewed);
    return () => void this.#onRenewed.delete(onRenewed);
  }

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

  /** The database does not know any more what it has answered: it is lost. */
  goneBack(): void {
    this.#lose(goneBack(this.#options.path));
  }

  /** Gives it up, so that the next sender need not wait. Idempotent. */
  async release(): Promise<void> {
    if (this.#isReleased) return;
    this.#isReleased = true;
    this.#cancelBeat();
    this.#cancelLapse();
    const { table } = this.#options;
    try {
      if (this.#lost === undefined) await table.leave(this);
    } catch {
      // Then the next sender waits until the beat has stood still.
    }
    table.close();
  }

  /** @throws {Error} The database has not answered. */
  async #beatNow(): Promise<void> {
    const { clock, table, path } = this.#options;
    const askedAtMs = clock.nowMs();
    const { epoch, tenure, beat, ttlMs } = this;
    const answer = await table.beat({ epoch, tenure, beat, ttlMs }, this.#notice);
    if (this.#isReleased || this.#lost !== undefined) return;
    if (typeof answer !== "number") {
      return this.#lose(answer === "taken" ? takenOver(path) : goneBack(path));
    }
    this.#beat = answer;
    this.#beatAtMs = Math.max(this.#beatAtMs, askedAtMs);
    this.#validUntilMs = Math.max(this.#validUntilMs, askedAtMs + this.#goodForMs);
    const isRenewed = this.#hasLapsed && this.#validUntilMs > clock.nowMs();
    if (isRenewed) this.#hasLapsed = false;
    this.#watch();
    if (!isRenewed) return;
    for (const onRenewed of [...this.#onRenewed]) onRenewed();
  }

  #beatIn(delayMs: number): void {
    this.#cancelBeat = this.#options.clock.setTimer(delayMs, async () => {
      let nextMs = this.#options.ttlMs / BEATS;
      try {
        await this.#beatNow();
        this.#failure = null;
      } catch (error) {
        this.#failure = messageOf(error);
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

  #lose(error: FencedError): void {
    if (this.#lost !== undefined) return;
    this.#lost = error;
    this.#lapse();
    for (const onLost of [...this.#onLost]) onLost(error);
    this.#onLost.clear();
  }
}

function isSame(a: LeaseRow, b: LeaseRow): boolean {
  return a.epoch === b.epoch && a.tenure === b.tenure && a.beat === b.beat &&
    a.holder === b.holder;
}

/** Waiting does not make a queue, a right or a password. */
function isFinal(error: Error): boolean {
  const reason = "reason" in error ? error.reason : undefined;
  return reason === "not-a-queue" || reason === "newer-version" || reason === "read-only";
}

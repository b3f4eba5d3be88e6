/**
 * Whether anybody has written into a queue's log. Asking SQLite costs three times as much as a
 * `stat`, and a `stat` more than waiting until the kernel tells, which an idle sender would do all
 * day.
 */

import type { Clock, FileWatch } from "../base/ports.ts";

/**
 * For so long after a write that was seen there may be another one with the same time: some
 * filesystems keep it in steps of two seconds.
 */
const SETTLED_AFTER_MS = 3000;
/** A commit shows when its sync is over, and that may be long after its writes. */
const ASK_AFTER_MS = 10_000;

export class LogLook {
  readonly #path: string;
  readonly #clock: Clock;
  readonly #watch: FileWatch | undefined;
  #endWatch: (() => Promise<void>) | undefined;
  #writtenAtMs = -Infinity;
  #sizeBytes = -1;
  #seenAtMs = -Infinity;
  #askedAtMs = -Infinity;

  /**
   * @param path The log, which this process may look at.
   * @param watch Tells of writes; without it the log is looked at each time.
   */
  constructor(path: string, clock: Clock, watch?: FileWatch) {
    this.#path = path;
    this.#clock = clock;
    this.#watch = watch;
  }

  /** Whether SQLite has to be asked: whoever gets true does so. */
  mayHaveNews(): boolean {
    const nowMs = this.#clock.nowMs();
    if (this.#endWatch === undefined) {
      // One that is written all the time is looked at: to be told costs more then.
      if (nowMs - this.#seenAtMs >= SETTLED_AFTER_MS) this.#haveNextWriteTold();
      if (this.#isOther()) this.#seenAtMs = nowMs;
    }
    const asks = nowMs - this.#seenAtMs < SETTLED_AFTER_MS ||
      nowMs - this.#askedAtMs >= ASK_AFTER_MS;
    if (asks) this.#askedAtMs = nowMs;
    return asks;
  }

  #haveNextWriteTold(): void {
    try {
      this.#endWatch = this.#watch?.nextWrite(this.#path, () => {
        this.#endWatch?.();
        this.#endWatch = undefined;
        this.#seenAtMs = this.#clock.nowMs();
      });
    } catch {
      // The kernel has no more watches, or the log is gone: it is looked at.
    }
  }

  /** Where nobody can look at the moment, nothing is known: NaN is never what it was. */
  #isOther(): boolean {
    let writtenAtMs = NaN, sizeBytes = NaN;
    try {
      const { mtime, size } = Deno.statSync(this.#path);
      writtenAtMs = mtime?.getTime() ?? NaN;
      sizeBytes = size;
    } catch {
      // Next time, perhaps.
    }
    const isOther = writtenAtMs !== this.#writtenAtMs || sizeBytes !== this.#sizeBytes;
    this.#writtenAtMs = writtenAtMs;
    this.#sizeBytes = sizeBytes;
    return isOther;
  }

  async stop(): Promise<void> {
    await this.#endWatch?.();
  }
}

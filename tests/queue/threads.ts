/** A queue's file is synced in the loop or in threads: what holds for one holds for both. */
import type { QueueOptions } from "../../src/queue/options.ts";
import { OutboundQueue } from "../../src/queue/queue.ts";
import { unless } from "./helpers.ts";

export const PLACES = ["loop", "threads"] as const;

/** Opens a queue. */
export type Open = (path: string, options?: QueueOptions) => Promise<OutboundQueue>;

/**
 * A test that is run for both.
 *
 * @param run Gets what opens a queue that is synced in the place in question.
 * @param missing Why it cannot be run here.
 */
export function inEachPlace(
  name: string,
  run: (open: Open) => Promise<void>,
  missing?: string,
): void {
  for (const syncIn of PLACES) {
    Deno.test({
      ...unless(missing, `${name} (syncIn ${syncIn})`),
      fn: () => run((path, options) => OutboundQueue.open(path, { syncIn, ...options })),
    });
  }
}

/** Syncs of the runtime's threads, in the tests' hands. */
export class HeldSyncs implements Disposable {
  readonly #syncData = Deno.FsFile.prototype.syncData;
  #release: ((outcome: Promise<void>) => void) | undefined;
  #begun: (() => void) | undefined;
  /** Syncs that have begun. */
  count = 0;
  /** Whether the next ones wait for {@linkcode release}. */
  holds = false;

  constructor() {
    const syncData = this.#syncData;
    const begin = (): Promise<void> | undefined => {
      this.count++;
      this.#begun?.();
      if (!this.holds) return undefined;
      return new Promise((resolve) => this.#release = resolve);
    };
    Deno.FsFile.prototype.syncData = async function () {
      await begin();
      await syncData.call(this);
    };
  }

  /** Settles once a sync has begun after this call. */
  next(): Promise<void> {
    return new Promise((resolve) => this.#begun = resolve);
  }

  /** Lets the one that waits go on, or fail. */
  release(error?: Error): void {
    this.holds = false;
    this.#release?.(error === undefined ? Promise.resolve() : Promise.reject(error));
  }

  [Symbol.dispose](): void {
    this.release();
    Deno.FsFile.prototype.syncData = this.#syncData;
  }
}

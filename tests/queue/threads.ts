/**
 * A queue's file is synced in the loop or in threads, and it is the queue's own or a spool's: what
 * holds for one place holds for each.
 */
import type { Allocate, Clock } from "../../src/base/ports.ts";
import { systemClock } from "../../src/base/clock.ts";
import type { QueueOptions } from "../../src/queue/options.ts";
import { OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import type { Tenure } from "../../src/queue/tenure.ts";
import { spoolQueue } from "../../src/spool/spool.ts";
import { unless } from "./helpers.ts";

export const PLACES = ["loop", "threads"] as const;

/** Opens a queue. */
export type Open = (path: string, options?: QueueOptions) => Promise<OutboundQueue>;

/** Where a spool's queue is synced. */
const SPOOL_PLACES = ["loop", "threads"] as const;

/** Whose the file is. */
export type FileOf = "queue" | "spool";

/** The name of the queue that is tested, where a file has several. */
export const TESTED = "tested";

/**
 * A test that is run for each place: a file of one queue, and a queue in a spool.
 *
 * @param run Gets what opens a queue in the place in question.
 * @param missing Why it cannot be run here.
 */
export function inEachPlace(
  name: string,
  run: (open: Open, fileOf: FileOf) => Promise<void>,
  missing?: string,
): void {
  inEachFile(name, run, missing);
  for (const syncIn of SPOOL_PLACES) {
    Deno.test({
      ...unless(missing, `${name} (spool, syncIn ${syncIn})`),
      fn: () => run((path, options) => spoolQueue(path, TESTED, { syncIn, ...options }), "spool"),
    });
  }
}

/**
 * The same for what is about a file that has one queue.
 *
 * @param run Gets what opens a queue that is synced in the place in question.
 * @param missing Why it cannot be run here.
 */
export function inEachFile(
  name: string,
  run: (open: Open, fileOf: FileOf) => Promise<void>,
  missing?: string,
): void {
  for (const syncIn of PLACES) {
    Deno.test({
      ...unless(missing, `${name} (syncIn ${syncIn})`),
      fn: () => run((path, options) => OutboundQueue.open(path, { syncIn, ...options }), "queue"),
    });
  }
}

/** The right to send from a queue, wherever that lies. */
export async function tenureOf(
  queue: OutboundQueue,
  clock: Clock = systemClock,
  allocate?: Allocate,
): Promise<Tenure & AsyncDisposable & { readonly spare: NonNullable<Tenure["spare"]> }> {
  const tenure = await sendingSideOf(queue).takeTenure(clock, undefined, allocate);
  const { spare } = tenure;
  if (spare === undefined) throw new Error("a file has spare space");
  return {
    epoch: tenure.epoch,
    spare,
    validForMs: () => tenure.validForMs(),
    subscribeLapsed: (call) => tenure.subscribeLapsed(call),
    subscribeLost: (call) => tenure.subscribeLost(call),
    misplaced: () => tenure.misplaced?.(),
    publish: (text) => tenure.publish(text),
    release: () => tenure.release(),
    [Symbol.asyncDispose]: async () => await tenure.release(),
  };
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

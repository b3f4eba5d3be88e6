import type { Clock } from "../../base/ports.ts";
import type { QueueStore } from "../store/contract.ts";

type Vacuumed = Pick<QueueStore, "space" | "vacuumStep" | "checkpoint">;

/** Below 4 MiB of free pages nothing is given back: the next packets will use them. */
const WORTH_PAGES = 1024;
/**
 * How long one step may hold the event loop. 200 pages take 0.5 ms where nothing else is in the
 * file, and 18 ms behind a backlog of 800 MB of which a third is left.
 */
const STEP_MS = 2;
const MIN_STEP_PAGES = 1;
const MAX_STEP_PAGES = 2000;
/** For how long a close may be held up by it. */
const LAST_STEPS_MS = 3000;
/**
 * After the last removal: until then a backlog is being delivered, and what would have to be moved
 * within the file is removed soon.
 */
const REST_MS = 100;
/** Unless so much more is free than in use that there is little to move. */
const MOSTLY_FREE = 8;
/** Where a look has found little: what is removed one by one takes long to become much. */
const NEXT_LOOK_MS = 5000;
const BETWEEN_STEPS_MS = 10;

/**
 * Gives the file's free space back to the disk after a backlog was delivered: in
 * small steps, and only while the queue has nothing else to do.
 */
export class Vacuum {
  readonly #store: Vacuumed;
  readonly #clock: Clock;
  readonly #isIdle: () => boolean;
  #cancel: (() => void) | undefined;
  #stopped = false;
  #removedAtMs = -Infinity;
  #stepPages = MIN_STEP_PAGES;
  #nextLookAtMs = -Infinity;

  /** @param isIdle Whether the queue has nothing to commit. */
  constructor(store: Vacuumed, clock: Clock, isIdle: () => boolean) {
    this.#store = store;
    this.#clock = clock;
    this.#isIdle = isIdle;
  }

  /** Packets were removed: look soon whether that left much free space. */
  wake(): void {
    this.#removedAtMs = this.#clock.nowMs();
    if (this.#cancel !== undefined) return;
    this.#after(Math.max(REST_MS, this.#nextLookAtMs - this.#removedAtMs), "look");
  }

  /** No step starts after this. */
  stop(): void {
    this.#stopped = true;
    this.#cancel?.();
    this.#cancel = undefined;
  }

  /** Gives everything back that is worth it, before the file is closed. */
  async finish(): Promise<void> {
    this.stop();
    const untilMs = this.#clock.nowMs() + LAST_STEPS_MS;
    try {
      const { pages, freePages } = await this.#store.space();
      if (!isWorthIt(pages, freePages)) return;
      for (let left = freePages; left > 0 && this.#clock.nowMs() < untilMs;) {
        const before = left;
        left = await this.#step();
        if (left >= before) break;
        // Steps of a file end at once: without this the loop would stand still until the last one.
        await new Promise<void>((resolve) => this.#clock.defer(resolve));
      }
      await this.#store.checkpoint();
    } catch {
      // A busy file or a full disk: space is given back another time.
    }
  }

  #after(delayMs: number, what: "look" | "step"): void {
    if (this.#stopped) return;
    // Packets may have been removed during a step, which asks for a look.
    this.#cancel?.();
    this.#cancel = this.#clock.setTimer(delayMs, () => {
      this.#cancel = undefined;
      // When busy, the next removal wakes us again.
      if (this.#isIdle()) void this.#work(what);
    });
  }

  async #work(what: "look" | "step"): Promise<void> {
    try {
      const { pages, freePages } = await this.#store.space();
      if (what === "look" && !isWorthIt(pages, freePages)) {
        this.#nextLookAtMs = this.#clock.nowMs() + NEXT_LOOK_MS;
        return;
      }
      const restedMs = this.#clock.nowMs() - this.#removedAtMs;
      if (restedMs < REST_MS && freePages <= MOSTLY_FREE * (pages - freePages)) {
        this.#after(REST_MS - restedMs, "look");
      } else if (await this.#step() > WORTH_PAGES) {
        this.#after(BETWEEN_STEPS_MS, "step");
      } else {
        await this.#store.checkpoint();
      }
    } catch {
      // A busy file or a full disk: space is given back another time.
    }
  }

  /** Returns how many pages are still free. */
  async #step(): Promise<number> {
    const beganMs = this.#clock.nowMs();
    const { freePages } = await this.#store.vacuumStep(this.#stepPages);
    const tookMs = this.#clock.nowMs() - beganMs;
    const pages = Math.floor(this.#stepPages * Math.min(2, STEP_MS / tookMs));
    this.#stepPages = Math.min(MAX_STEP_PAGES, Math.max(MIN_STEP_PAGES, pages));
    return freePages;
  }
}

function isWorthIt(pages: number, freePages: number): boolean {
  return freePages > WORTH_PAGES && 2 * freePages > pages;
}

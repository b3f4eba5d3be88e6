import type { Clock } from "../../base/ports.ts";
import type { FileSpace } from "../store/contract.ts";

/** What giving space back needs of the store. */
export interface SpaceStore {
  /** How large the file is. */
  space(): FileSpace | Promise<FileSpace>;
  /** Gives some free pages back. */
  vacuumStep(pages: number): FileSpace | Promise<FileSpace>;
  /** Moves the log into the file. */
  checkpoint(): void | Promise<void>;
}

/** Below 4 MiB of free pages nothing is given back: the next packets will use them. */
const WORTH_PAGES = 1024;
/** One step is about 2 ms of work and a sync. */
const STEP_PAGES = 200;
/** The same when the file is closed: nobody waits for the event loop any more. */
const LAST_STEP_PAGES = 2000;
/** For how long a close may be held up by it. */
const LAST_STEPS_MS = 3000;
/** After the last removal, and between two steps. */
const REST_MS = 100;
/** Where a look has found little: what is removed one by one takes long to become much. */
const NEXT_LOOK_MS = 5000;
const BETWEEN_STEPS_MS = 10;

/**
 * Gives the file's free space back to the disk after a backlog was delivered: in
 * small steps, and only while the queue has nothing else to do.
 */
export class Vacuum {
  readonly #store: SpaceStore;
  readonly #clock: Clock;
  readonly #isIdle: () => boolean;
  #cancel: (() => void) | undefined;
  #stopped = false;
  #nextLookAtMs = -Infinity;

  /**
   * Makes it; it does nothing until woken.
   *
   * @param store The file.
   * @param clock Time.
   * @param isIdle Whether the queue has nothing to commit.
   */
  constructor(store: SpaceStore, clock: Clock, isIdle: () => boolean) {
    this.#store = store;
    this.#clock = clock;
    this.#isIdle = isIdle;
  }

  /** Packets were removed: look soon whether that left much free space. */
  wake(): void {
    if (this.#cancel !== undefined) return;
    this.#after(Math.max(REST_MS, this.#nextLookAtMs - this.#clock.nowMs()), "look");
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
        ({ freePages: left } = await this.#store.vacuumStep(LAST_STEP_PAGES));
        if (left >= before) break;
      }
      await this.#store.checkpoint();
    } catch {
      // A busy file or a full disk: space is given back another time.
    }
  }

  #after(delayMs: number, what: "look" | "step"): void {
    if (this.#stopped) return;
    this.#cancel = this.#clock.setTimer(delayMs, () => {
      this.#cancel = undefined;
      // When busy, the next removal wakes us again.
      if (this.#isIdle()) void this.#work(what);
    });
  }

  async #work(what: "look" | "step"): Promise<void> {
    try {
      const { pages, freePages } = what === "step"
        ? await this.#store.vacuumStep(STEP_PAGES)
        : await this.#store.space();
      if (what === "step" ? freePages > WORTH_PAGES : isWorthIt(pages, freePages)) {
        this.#after(BETWEEN_STEPS_MS, "step");
      } else if (what === "step") {
        await this.#store.checkpoint();
      } else {
        this.#nextLookAtMs = this.#clock.nowMs() + NEXT_LOOK_MS;
      }
    } catch {
      // A busy file or a full disk: space is given back another time.
    }
  }
}

function isWorthIt(pages: number, freePages: number): boolean {
  return freePages > WORTH_PAGES && 2 * freePages > pages;
}

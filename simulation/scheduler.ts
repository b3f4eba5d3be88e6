/**
 * Virtual time. Events run one at a time, in the order of their times and, at
 * the same time, of their making; nothing else moves the clock.
 *
 * @module
 */

import type { Clock } from "../src/base/ports.ts";

/** Something that will happen; cleared by `cancel`. */
export interface SimEvent {
  readonly atMs: number;
  readonly order: number;
  run: (() => void) | undefined;
}

/** So many events at one instant mean that somebody waits for nothing. */
const BUSY_LOOP_EVENTS = 50_000;

/** The world's clock and the heap of what is to happen. */
export class Scheduler {
  #nowMs = 0;
  #order = 0;
  #heap: SimEvent[] = [];
  #eventsAtThisInstant = 0;
  /** Events run so far. */
  events = 0;
  /** Set when an event has entered the sender's code, which may have left promise jobs. */
  touched = false;

  /** True time in milliseconds; starts at 0. */
  get nowMs(): number {
    return this.#nowMs;
  }

  /** Lets `run` happen `delayMs` from now. */
  after(delayMs: number, run: () => void): SimEvent {
    const event: SimEvent = { atMs: this.#nowMs + delayMs, order: this.#order++, run };
    this.#push(event);
    return event;
  }

  /** Runs the next event that is due before `endMs`; false when there is none. */
  step(endMs: number): boolean {
    for (;;) {
      const event = this.#heap[0];
      if (event === undefined || event.atMs > endMs) return false;
      this.#pop();
      const { run } = event;
      if (run === undefined) continue;
      if (event.atMs > this.#nowMs) {
        this.#nowMs = event.atMs;
        this.#eventsAtThisInstant = 0;
      } else if (++this.#eventsAtThisInstant > BUSY_LOOP_EVENTS) {
        throw new Error(`busy loop: ${BUSY_LOOP_EVENTS} events at one instant`);
      }
      this.events++;
      event.run = undefined;
      run();
      return true;
    }
  }

  /** Moves the clock although nothing happens. */
  advanceTo(atMs: number): void {
    this.#nowMs = Math.max(this.#nowMs, atMs);
    this.#eventsAtThisInstant = 0;
  }

  #push(event: SimEvent): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const parentAt = (at - 1) >> 1;
      const parent = heap[parentAt];
      if (parent === undefined || !before(event, parent)) break;
      heap[at] = parent;
      at = parentAt;
    }
    heap[at] = event;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let at = 0;
    for (;;) {
      let childAt = 2 * at + 1;
      let child = heap[childAt];
      if (child === undefined) break;
      const right = heap[childAt + 1];
      if (right !== undefined && before(right, child)) {
        child = right;
        childAt++;
      }
      if (!before(child, last)) break;
      heap[at] = child;
      at = childAt;
    }
    heap[at] = last;
  }
}

function before(a: SimEvent, b: SimEvent): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}

/** Ends an event that has not happened; harmless after it. */
export function cancel(event: SimEvent | undefined): void {
  if (event !== undefined) event.run = undefined;
}

/** How exact a process's timers are. */
export interface ProcessTiming {
  /** The host's monotonic clock, jumps included. */
  readonly hostNowMs: () => number;
  /** What people's clocks show. */
  readonly wallMs: () => number;
  /** How late a timer fires. */
  readonly timerLateMs: () => number;
}

/**
 * One life of the sender's process: its clock, and the only door through which
 * the world may call it. A dead process is never called again; a stopped one is
 * called once it continues.
 */
export class SimProcess implements Clock {
  readonly #scheduler: Scheduler;
  readonly #timing: ProcessTiming;
  readonly #originMs: number;
  #alive = true;
  #stopped = false;
  #inbox: (() => void)[] = [];
  #timers = 0;

  /** @param originMs Where its monotonic clock starts. */
  constructor(scheduler: Scheduler, timing: ProcessTiming, originMs: number) {
    this.#scheduler = scheduler;
    this.#timing = timing;
    this.#originMs = originMs - timing.hostNowMs();
  }

  /** Whether it has not been killed. */
  get alive(): boolean {
    return this.#alive;
  }

  /** Timers that are set. */
  get timers(): number {
    return this.#timers;
  }

  /** Its own monotonic time. */
  nowMs(): number {
    return this.#timing.hostNowMs() + this.#originMs;
  }

  /** The wall clock. */
  wallMs(): number {
    return this.#timing.wallMs();
  }

  /** Sets a timer; as in the real world it may be late, never early. */
  setTimer(delayMs: number, callback: () => void): () => void {
    this.#timers++;
    let pending = true;
    const settle = (): boolean => {
      const was = pending;
      if (was) this.#timers--;
      pending = false;
      return was;
    };
    const dueMs = Math.max(1, delayMs) + this.#timing.timerLateMs();
    const event = this.#scheduler.after(dueMs, () => {
      this.enter(() => {
        if (settle()) callback();
      });
    });
    return () => {
      settle();
      cancel(event);
    };
  }

  /** Calls back behind what is already due. */
  defer(callback: () => void): void {
    this.#scheduler.after(0, () => this.enter(callback));
  }

  /** Calls into the process, or leaves the call for when it continues. */
  enter(callback: () => void): void {
    if (!this.#alive) return;
    if (this.#stopped) {
      this.#inbox.push(callback);
      return;
    }
    this.#scheduler.touched = true;
    callback();
  }

  /** SIGSTOP, a closed laptop, a blocked event loop. */
  stop(): void {
    this.#stopped = true;
  }

  /** SIGCONT: what is overdue happens now, one event after the other. */
  resume(): void {
    this.#stopped = false;
    for (const callback of this.#inbox.splice(0)) {
      this.#scheduler.after(0, () => this.enter(callback));
    }
  }

  /** SIGKILL. */
  kill(): void {
    this.#alive = false;
    this.#inbox = [];
  }
}

/** Lets every promise job run, also those that they leave behind. */
export function settled(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}

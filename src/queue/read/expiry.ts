/**
 * Which packets have expired, and when they are moved to the dead letters:
 *
 * - when the sender asks for the packets that follow and an expired one is next
 * - by a sweep, while this process has the sender: it looks when the next one
 *   expires, and never takes what the sender was given and may have in flight
 */

import { lastIdOf } from "../../base/packet_batch.ts";
import type { Clock, PacketBatch } from "../../base/ports.ts";
import type { ReadResult } from "../store/contract.ts";
import type { Due, IdRange } from "../store/types.ts";
import type { QueueTime } from "./queue_time.ts";

export interface ExpiringQueue {
  /** Which packets above an id have expired. */
  due(afterId: number, nowMs: number, order: "by-id" | "by-time"): Due | Promise<Due>;
  /** Makes dead letters of them. */
  bury(ranges: readonly IdRange[]): Promise<void>;
  /** Makes dead letters of the packets in a damaged row. */
  setAside(lastId: number): Promise<void>;
}

/** Between two sweeps. */
const SWEEP_REST_MS = 1000;
/** A slewed clock and the timers' may differ, so that no sweep is planned further ahead. */
const SWEEP_AT_LATEST_MS = 60_000;
/** After a sweep that failed. The cause is not lost: reading and storing meet it, too. */
const SWEEP_RETRY_MS = 10_000;

export class Expiry {
  readonly #queue: ExpiringQueue;
  readonly #clock: Clock;
  readonly #time: QueueTime;
  /** The highest id that the sender has been given: nothing above it can be in flight. */
  #handedOutId = 0;
  /** Settles when the last of the `exclusively` calls so far has ended. */
  #turn: Promise<void> = Promise.resolve();
  #sweepers = 0;
  #sweeping = false;
  #lastSweepAtMs = -Infinity;
  /** Whether anything was ever seen that expires. */
  #isUsed = false;
  #planned: { readonly atMs: number; readonly cancel: () => void } | undefined;

  /** @param time The time by which packets expire. */
  constructor(queue: ExpiringQueue, clock: Clock, time: QueueTime) {
    this.#queue = queue;
    this.#clock = clock;
    this.#time = time;
  }

  /**
   * One at a time: reading for the sender, and taking packets out of the middle.
   * So no packet is given out while it is on its way to the dead letters.
   */
  exclusively<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#turn.then(work);
    const over = () => {};
    this.#turn = mine.then(over, over);
    return mine;
  }

  /**
   * What the sender gets: the packets that follow `afterId`, above which nothing is in flight, up
   * to the first that has expired or is damaged. Those that are next are moved before.
   */
  handOut(
    afterId: number,
    read: () => Promise<ReadResult>,
  ): Promise<readonly PacketBatch[]> {
    return this.exclusively(async () => {
      const rewound = afterId < this.#handedOutId;
      this.#handedOutId = afterId;
      for (;;) {
        const { batches, damaged } = await read();
        if (batches.length === 0 && damaged !== undefined) {
          await this.#queue.setAside(damaged.lastId);
          continue;
        }
        const nowMs = this.#time.nowMs();
        const expired = batches.findIndex(({ expiresAtMs }) => expiresAtMs <= nowMs);
        if (expired !== 0) {
          const handedOut = expired === -1 ? batches : batches.slice(0, expired);
          const last = handedOut.at(-1);
          if (last !== undefined) this.#handedOutId = lastIdOf(last);
          if (rewound && this.#isUsed) this.#plan(nowMs);
          // Who sends compares with the wall clock.
          return handedOut.map((batch) =>
            batch.expiresAtMs === Infinity
              ? batch
              : { ...batch, expiresAtMs: this.#time.toWallMs(batch.expiresAtMs) }
          );
        }
        await this.#buryNext(afterId, batches[0], nowMs);
      }
    });
  }

  async #buryNext(afterId: number, next: PacketBatch | undefined, nowMs: number): Promise<void> {
    if (next === undefined) return;
    const { firstId } = next;
    const { ranges } = await this.#queue.due(afterId, nowMs, "by-id");
    // What is next goes in any case, even if somebody else was quicker.
    const known = ranges[0]?.firstId === firstId;
    await this.#queue.bury(known ? ranges : [{ firstId, lastId: lastIdOf(next) }]);
  }

  onStored(batches: readonly PacketBatch[]): void {
    let firstAtMs = Infinity;
    for (const { expiresAtMs } of batches) firstAtMs = Math.min(firstAtMs, expiresAtMs);
    if (firstAtMs === Infinity) return;
    this.#isUsed = true;
    this.#plan(firstAtMs);
  }

  onOthersStored(): void {
    this.#plan(-Infinity);
  }

  /**
   * Sweeps until what it returns is called. Only for a process that has the sender, for nobody
   * else knows what is in flight.
   */
  sweep(): () => void {
    this.#sweepers++;
    void this.#sweepNow();
    let ended = false;
    return () => {
      if (ended) return;
      ended = true;
      this.#sweepers--;
      if (this.#sweepers === 0) this.#unplan();
    };
  }

  /** No sweep starts after this. */
  stop(): void {
    this.#sweepers = -Infinity;
    this.#unplan();
  }

  #unplan(): void {
    this.#planned?.cancel();
    this.#planned = undefined;
  }

  #plan(dueAtMs: number): void {
    // One under way will look for what comes next by itself.
    if (this.#sweepers <= 0 || this.#sweeping || dueAtMs === Infinity) return;
    const nowMs = this.#clock.nowMs();
    const delayMs = Math.max(
      0,
      this.#lastSweepAtMs + SWEEP_REST_MS - nowMs,
      Math.min(dueAtMs - this.#time.nowMs(), SWEEP_AT_LATEST_MS),
    );
    const atMs = nowMs + delayMs;
    if (this.#planned !== undefined && this.#planned.atMs <= atMs) return;
    this.#unplan();
    const cancel = this.#clock.setTimer(delayMs, () => {
      this.#planned = undefined;
      void this.#sweepNow();
    });
    this.#planned = { atMs, cancel };
  }

  async #sweepNow(): Promise<void> {
    if (this.#sweeping || this.#sweepers <= 0) return;
    this.#sweeping = true;
    this.#unplan();
    this.#lastSweepAtMs = this.#clock.nowMs();
    let nextAtMs = Infinity;
    try {
      for (let more = true; more && this.#sweepers > 0;) {
        ({ more, nextAtMs } = await this.exclusively(() => this.#sweepStep()));
      }
    } catch {
      nextAtMs = this.#time.nowMs() + SWEEP_RETRY_MS;
    }
    this.#sweeping = false;
    this.#plan(nextAtMs);
  }

  /** One transaction. */
  async #sweepStep(): Promise<{ readonly more: boolean; readonly nextAtMs: number }> {
    const nowMs = this.#time.nowMs();
    const { ranges, nextAtMs } = await this.#queue.due(this.#handedOutId, nowMs, "by-time");
    if (ranges.length > 0 || nextAtMs !== Infinity) this.#isUsed = true;
    if (ranges.length === 0) return { more: false, nextAtMs };
    await this.#queue.bury(ranges);
    return { more: true, nextAtMs };
  }
}

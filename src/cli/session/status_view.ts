/**
 * A sender's state for people (one line) and for programs (fields).
 *
 * @module
 */

import { type Condition, ConditionTracker, inOneLine } from "../../sender/condition.ts";
import type { Sender, SenderStats } from "../../sender/sender.ts";
import { formatBytes, formatCount, formatPackets } from "../arguments/values.ts";
import { printable } from "../terminal/printable.ts";

/** The rate is that of this long. */
const RATE_WINDOW_MS = 3000;

/** Green, grey, cyan, yellow, red: ANSI codes. */
const COLORS: Record<Condition["tone"], number> = {
  good: 32,
  idle: 90,
  busy: 36,
  warning: 33,
  bad: 31,
};

/** Watches a sender. */
export class StatusView {
  readonly #sender: Sender;
  readonly #history: { readonly atMs: number; readonly drained: number }[] = [];
  readonly #condition = new ConditionTracker();
  #lastReported = "";

  /** @param sender Whom to watch; it is watched until it is closed. */
  constructor(sender: Sender) {
    this.#sender = sender;
    void this.#follow();
  }

  /**
   * One line, with colours.
   *
   * @param nowMs Monotonic time.
   */
  inOneLine(nowMs: number): string {
    const stats = this.#sender.stats();
    const rate = this.#ratePerSecond(stats, nowMs);
    const parts = [
      painted(this.#condition.condition(stats.queue.packets, rate > 0)),
      this.#queueWords(stats),
      `drained ${formatCount(stats.drainedPackets)}`,
      `${formatCount(rate)}/s`,
    ];
    return parts.join(" · ");
  }

  /**
   * The state as a log line, or `undefined` when it is that of the last time.
   *
   * @param nowMs Monotonic time.
   */
  report(nowMs: number): string | undefined {
    const stats = this.#sender.stats();
    const rate = this.#ratePerSecond(stats, nowMs);
    const condition = this.#condition.condition(stats.queue.packets, rate > 0);
    const state = `${inOneLine(condition)}; ${this.#queueWords(stats)}; ` +
      `${formatCount(stats.drainedPackets)} drained`;
    if (state === this.#lastReported) return undefined;
    this.#lastReported = state;
    return `${state}, ${formatCount(rate)}/s`;
  }

  /** The state in fields; their meaning is that of `SenderStats`. */
  fields(): Record<string, unknown> {
    const { queue, ...delivery } = this.#sender.stats();
    return {
      state: this.#sender.state,
      verdict: this.#sender.verdict.kind,
      ...delivery,
      lastPacketId: queue.lastId,
      queuedPackets: queue.packets,
      queuedBytes: queue.bytes,
      oldestEnqueuedAtMs: queue.oldestEnqueuedAtMs,
      droppedPackets: queue.droppedPackets,
      deadPackets: queue.deadPackets,
    };
  }

  async #follow(): Promise<void> {
    for await (const status of this.#sender.status()) this.#condition.take(status);
  }

  #queueWords({ queue, inFlightPackets, heldPackets }: SenderStats): string {
    const size = queue.packets === 0 ? "" : `, ${formatBytes(queue.bytes)}`;
    const dropped = queue.droppedPackets === 0
      ? ""
      : `, ${formatCount(queue.droppedPackets)} dropped`;
    const dead = queue.deadPackets === 0 ? "" : `, ${formatCount(queue.deadPackets)} dead letters`;
    return `queued ${formatPackets(queue.packets)}${size} ` +
      `(${formatCount(inFlightPackets)} in flight, ${
        formatCount(heldPackets)
      } held${dropped}${dead})`;
  }

  #ratePerSecond({ drainedPackets }: SenderStats, nowMs: number): number {
    const history = this.#history;
    history.push({ atMs: nowMs, drained: drainedPackets });
    while (history.length > 2 && nowMs - (history[1]?.atMs ?? nowMs) >= RATE_WINDOW_MS) {
      history.shift();
    }
    const oldest = history[0];
    if (oldest === undefined || nowMs <= oldest.atMs) return 0;
    return Math.round(1000 * (drainedPackets - oldest.drained) / (nowMs - oldest.atMs));
  }
}

/** A condition in one line, with colours. */
export function painted(condition: Condition): string {
  return `\x1b[${COLORS[condition.tone]}m${printable(inOneLine(condition))}\x1b[0m`;
}

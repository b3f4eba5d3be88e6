/**
 * A sender's state for people (one line) and for programs (fields).
 *
 * @module
 */

import type { VerdictKind } from "../delivery/liveness.ts";
import type { SenderState } from "../delivery/supervisor.ts";
import type { Sender, SenderStats, SenderStatus } from "../sender.ts";
import { formatBytes, formatCount, formatPackets } from "./values.ts";

/** The rate is that of this long. */
const RATE_WINDOW_MS = 3000;

const COLOR = { green: 32, yellow: 33, red: 31, dim: 90 } as const;

/** Watches a sender. */
export class StatusView {
  readonly #sender: Sender;
  readonly #history: { readonly atMs: number; readonly drained: number }[] = [];
  #latest: SenderStatus | undefined;
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
  line(nowMs: number): string {
    const stats = this.#sender.stats();
    const parts = [
      painted(this.#condition()),
      this.#queueWords(stats),
      `drained ${formatCount(stats.drainedPackets)}`,
      `${formatCount(this.#ratePerSecond(stats, nowMs))}/s`,
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
    const state = `${this.#condition().words}; ${this.#queueWords(stats)}; ` +
      `${formatCount(stats.drainedPackets)} drained`;
    if (state === this.#lastReported) return undefined;
    this.#lastReported = state;
    return `${state}, ${formatCount(rate)}/s`;
  }

  /** The state in fields; their meaning is that of `SenderStats`. */
  fields(): Record<string, unknown> {
    const { queue, ...delivery } = this.#sender.stats();
    return {
      state: this.#latest?.state,
      verdict: this.#latest?.verdict.kind,
      ...delivery,
      lastPacketId: queue.lastId,
      queuedPackets: queue.packets,
      queuedBytes: queue.bytes,
      oldestEnqueuedAtMs: queue.oldestEnqueuedAtMs,
      droppedPackets: queue.droppedPackets,
    };
  }

  async #follow(): Promise<void> {
    for await (const status of this.#sender.status()) this.#latest = status;
  }

  #condition(): Condition {
    const { state, verdict, words } = this.#latest ?? {};
    return conditionOf(state, verdict?.kind, words);
  }

  #queueWords({ queue, inFlightPackets, heldPackets }: SenderStats): string {
    const size = queue.packets === 0 ? "" : `, ${formatBytes(queue.bytes)}`;
    const dropped = queue.droppedPackets === 0
      ? ""
      : `, ${formatCount(queue.droppedPackets)} dropped`;
    return `queued ${formatPackets(queue.packets)}${size} ` +
      `(${formatCount(inFlightPackets)} in flight, ${formatCount(heldPackets)} held${dropped})`;
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

/** A state for people. */
export interface Condition {
  /** In words. */
  readonly words: string;
  /** How good it is. */
  readonly color: keyof typeof COLOR;
}

/**
 * The state and verdict in words.
 *
 * @param state What the sender is doing; `undefined`: it has not said.
 * @param verdict The last verdict on the path.
 * @param words The last change in one sentence.
 */
export function conditionOf(
  state: SenderState | undefined,
  verdict: VerdictKind | undefined,
  words: string | undefined,
): Condition {
  switch (state) {
    case undefined:
      return { words: "starting", color: "dim" };
    case "idle":
      return { words: "nothing to send", color: "dim" };
    case "connecting":
      return { words: "connecting", color: "yellow" };
    case "backing-off":
      return { words: `${words}; trying again`, color: "red" };
    case "closed":
      return { words: "closed", color: "dim" };
    case "connected":
      return verdict === "healthy" || verdict === undefined
        ? { words: "connected", color: "green" }
        : { words: words ?? verdict, color: "yellow" };
    case "draining":
      return { words: "finishing the connection", color: "green" };
    default:
      throw new TypeError(`Unknown state ${JSON.stringify(state satisfies never)}`);
  }
}

/** Puts words into a colour. */
export function painted({ words, color }: Condition): string {
  return `\x1b[${COLOR[color]}m${words}\x1b[0m`;
}

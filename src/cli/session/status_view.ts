/** A sender's state for people and for programs. */

import type { QueueStats } from "../../base/queue_stats.ts";
import type { SenderStats } from "../../delivery/status.ts";
import { type Condition, inOneLine } from "../../sender/condition.ts";
import { kindOf } from "../../sender/outage.ts";
import type { Sender } from "../../sender/sender.ts";
import { verdictToTell } from "../../sender/verdict_meaning.ts";
import {
  formatBytes,
  formatCount,
  formatPackets,
  formatThings,
  printable,
} from "../terminal/figures.ts";

/** Green, grey, cyan, yellow, red: ANSI codes. */
const COLORS: Record<Condition["tone"], number> = {
  good: 32,
  idle: 90,
  busy: 36,
  warning: 33,
  bad: 31,
};

export class StatusView {
  readonly #sender: Sender;
  #lastReported = "";

  constructor(sender: Sender) {
    this.#sender = sender;
  }

  /** The reason, which may be long, comes last: a terminal cuts it, and not the figures. */
  inOneLine(): string {
    const stats = this.#sender.stats();
    const { tone, headline, detail } = this.#sender.condition;
    const parts = [
      colored(tone, headline),
      this.#queueWords(stats),
      `delivered ${formatCount(stats.confirmedPackets)}`,
      `${this.#rate}/s`,
      ...(tone === "warning" || tone === "bad" ? [printable(detail)] : []),
    ];
    return parts.join(" · ");
  }

  /** The state as a log line, or `undefined` when it is that of the last time. */
  report(): string | undefined {
    const stats = this.#sender.stats();
    const condition = inOneLine(this.#sender.condition);
    const counts = `${this.#queueWords(stats)}; ${formatCount(stats.confirmedPackets)} delivered`;
    // The course of an outage is told now and then, its counts are no news; and its
    // reason may come in two lengths of time, by turns.
    const kind = kindOf(condition) + (this.#sender.outage === undefined ? counts : "");
    if (kind === this.#lastReported) return undefined;
    this.#lastReported = kind;
    return this.words();
  }

  words(): string {
    const stats = this.#sender.stats();
    return `${inOneLine(this.#sender.condition)}; ${this.#queueWords(stats)}; ` +
      `${formatCount(stats.confirmedPackets)} delivered, ${this.#rate}/s`;
  }

  /** The state in fields; their meaning is that of `SenderStats`. */
  fields(): Record<string, unknown> {
    const { queue, ...delivery } = this.#sender.stats();
    const { state, verdict, condition } = this.#sender;
    return {
      state,
      verdict: verdictToTell(state, verdict)?.kind ?? null,
      condition: condition.tone,
      ...delivery,
      ...queueFields(queue),
    };
  }

  get #rate(): string {
    return formatCount(Math.round(this.#sender.rates.drainedPacketsPerSecond));
  }

  #queueWords({ queue, inFlightPackets, heldPackets }: SenderStats): string {
    const size = queue.packets === 0 ? "" : `, ${formatBytes(queue.bytes)}`;
    const dropped = queue.droppedPackets === 0
      ? ""
      : `, ${formatCount(queue.droppedPackets)} dropped`;
    const dead = queue.deadPackets === 0
      ? ""
      : `, ${formatThings(queue.deadPackets, "dead letter")}`;
    return `queued ${formatPackets(queue.packets)}${size} ` +
      `(${formatCount(inFlightPackets)} in flight, ${
        formatCount(heldPackets)
      } held${dropped}${dead})`;
  }
}

/** What of a queue belongs into the fields of a log line. */
export function queueFields(queue: QueueStats): Record<string, unknown> {
  return {
    lastPacketId: queue.lastId,
    queuedPackets: queue.packets,
    queuedBytes: queue.bytes,
    oldestEnqueuedAtMs: queue.oldestEnqueuedAtMs,
    droppedPackets: queue.droppedPackets,
    deadPackets: queue.deadPackets,
  };
}

export function painted(condition: Condition): string {
  return colored(condition.tone, inOneLine(condition));
}

function colored(tone: Condition["tone"], words: string): string {
  return `\x1b[${COLORS[tone]}m${printable(words)}\x1b[0m`;
}

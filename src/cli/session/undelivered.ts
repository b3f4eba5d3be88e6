/**
 * Packets that are not in the queue any more, and were not delivered.
 *
 * @module
 */

import type { QueueStats } from "../../base/queue_stats.ts";
import { formatCount, formatPackets } from "../terminal/figures.ts";
import type { RouteLog } from "../terminal/output.ts";

/** Each way out of the queue that is no delivery, and what it is called. */
const WAYS = [
  ["expiredPackets", "expired"],
  ["gaveUpPackets", "given up"],
  ["damagedPackets", "damaged"],
  ["refusedPackets", "refused"],
  ["droppedPackets", "dropped"],
] as const;

type Way = typeof WAYS[number][0];

/** What has left a queue undelivered between two moments. */
export class Undelivered {
  readonly #counts: Readonly<Record<Way, number>>;

  /**
   * @param before How the queue stood.
   * @param now How it stands.
   */
  constructor(before: QueueStats, now: QueueStats) {
    const since = (way: Way) => Math.max(0, now[way] - before[way]);
    this.#counts = {
      expiredPackets: since("expiredPackets"),
      gaveUpPackets: since("gaveUpPackets"),
      damagedPackets: since("damagedPackets"),
      refusedPackets: since("refusedPackets"),
      droppedPackets: since("droppedPackets"),
    };
  }

  /** Whether there is any. */
  get any(): boolean {
    return WAYS.some(([way]) => this.#counts[way] > 0);
  }

  /** For the line that sums up: `", 3 expired, 1 dropped"`. */
  get words(): string {
    return WAYS.map(([way, name]) =>
      this.#counts[way] === 0 ? "" : `, ${formatCount(this.#counts[way])} ${name}`
    ).join("");
  }

  /** Says of each where it is now. */
  tell(log: RouteLog): void {
    const { expiredPackets, gaveUpPackets, damagedPackets } = this.#counts;
    const { refusedPackets, droppedPackets } = this.#counts;
    if (droppedPackets > 0) {
      const packets = `${formatPackets(droppedPackets)} ${droppedPackets === 1 ? "was" : "were"}`;
      log.error(`${packets} removed to make room, and not delivered`);
    }
    const died = expiredPackets + gaveUpPackets + damagedPackets;
    if (died > 0) {
      log.error(
        `${formatPackets(died)} ${died === 1 ? "was" : "were"} not delivered and ` +
          `${becameLetters(died)}: see sendq list --dead`,
      );
    }
    if (refusedPackets > 0) {
      log.error(
        `the server refused ${formatPackets(refusedPackets)}, which ` +
          `${becameLetters(refusedPackets)} with its words: see sendq list --dead`,
      );
    }
  }
}

function becameLetters(packets: number): string {
  return packets === 1 ? "is a dead letter" : "are dead letters";
}

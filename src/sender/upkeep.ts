import { eachSecond } from "../base/waits.ts";
import type { Clock } from "../base/ports.ts";
import type { Counters, RateMeter } from "./rate_meter.ts";
import type { ReportPublisher } from "./report.ts";

/** So long after the counters stand still the rates, which are those of three seconds, are 0. */
const QUIET_AFTER_SECONDS = 5;

export interface Upkeep {
  /** What the rates are made of. */
  readonly counters: () => Counters;
  /** Stays while nothing that is counted or reported changes, but for the rates; NaN: unknown. */
  readonly changes: () => number;
}

/**
 * Measures the rates once a second, and publishes what has changed. While nothing changes, a
 * second costs next to nothing, for most senders of a process with many are idle.
 *
 * @returns Ends it.
 */
export function keepUp(
  clock: Clock,
  meter: RateMeter,
  reports: Pick<ReportPublisher, "refresh">,
  { counters, changes }: Upkeep,
): () => void {
  let known = NaN;
  let quietSeconds = 0;
  let isPublished = false;
  let last = counters();
  meter.sample(clock.nowMs(), last);
  return eachSecond(clock, () => {
    const present = changes();
    const isNews = present !== known;
    known = present;
    const before = last;
    if (isNews) last = counters();
    quietSeconds = isNews && hasGrown(before, last) ? 0 : quietSeconds + 1;
    meter.sample(clock.nowMs(), last);
    if (isNews || quietSeconds < QUIET_AFTER_SECONDS || !isPublished) {
      isPublished = reports.refresh();
    }
  });
}

function hasGrown(before: Counters, now: Counters): boolean {
  return now.storedPackets !== before.storedPackets ||
    now.drainedPackets !== before.drainedPackets || now.ackedBytes !== before.ackedBytes;
}

/**
 * Whether a figure that is sampled again and again grows.
 *
 * @module
 */

/** One moment of the sender's process. */
export interface Sample {
  /** Resident memory of the process that sends. */
  readonly rssBytes: number;
  /** Objects and buffers that are alive in it. */
  readonly liveBytes: number;
  /** Open descriptors of the process that sends. */
  readonly descriptors: number;
  /** SQLite's log beside the queue. */
  readonly walBytes: number;
  /** Resident memory of the process that only enqueues. */
  readonly enqueuerRssBytes: number;
  /** Objects and buffers that are alive in it. */
  readonly enqueuerLiveBytes: number;
}

/** Three in each third that is compared: with fewer, one odd sample is the median. */
const LEAST_SAMPLES = 9;

/** What growth is none: `factor` times the earlier figure, and `more`. */
export interface Tolerance {
  readonly factor: number;
  readonly more: number;
}

/** The second third of a run beside the last one. */
export interface Trend {
  /** Median of the second third; undefined where there were too few samples to tell. */
  readonly second: number | undefined;
  /** Median of the last third; undefined likewise. */
  readonly last: number | undefined;
  /** What the last third may be. */
  readonly allowed: number;
  readonly grows: boolean;
}

/**
 * Compares medians: of a figure that swings, they say more than its ends. The first third is for
 * warming up.
 */
export function trendOf(values: readonly number[], { factor, more }: Tolerance): Trend {
  if (values.length < LEAST_SAMPLES) {
    return { second: undefined, last: undefined, allowed: more, grows: false };
  }
  const third = Math.floor(values.length / 3);
  const second = median(values.slice(third, -third));
  const last = median(values.slice(-third));
  const allowed = second * factor + more;
  return { second, last, allowed, grows: last > allowed };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
}

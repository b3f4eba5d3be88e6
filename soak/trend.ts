/**
 * Whether a figure that is sampled again and again grows.
 *
 * @module
 */

/** One moment of the sender's process. */
export interface Sample {
  /** Resident memory of the process that sends. */
  readonly rssBytes: number;
  /** Open descriptors of the process that sends. */
  readonly descriptors: number;
  /** SQLite's log beside the queue. */
  readonly walBytes: number;
  /** Resident memory of the process that only enqueues. */
  readonly enqueuerRssBytes: number;
}

/** What growth is none: `factor` times the earlier figure, and `more`. */
export interface Tolerance {
  readonly factor: number;
  readonly more: number;
}

/** The second third of a run beside the last one. */
export interface Trend {
  /** Median of the second third; undefined where there were no samples. */
  readonly second: number | undefined;
  /** Median of the last third. */
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
  const third = values.length / 3;
  const second = median(values.slice(Math.floor(third), Math.floor(2 * third)));
  const last = median(values.slice(Math.floor(2 * third)));
  const allowed = (second ?? 0) * factor + more;
  // Without samples there is nothing to say, and nothing has grown.
  return { second, last, allowed, grows: second !== undefined && (last ?? 0) > allowed };
}

function median(values: readonly number[]): number | undefined {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
}

/** Rates are those of this long: a single second jumps too much to be read. */
const WINDOW_MS = 3000;

/** Each only grows. */
export interface Counters {
  readonly storedPackets: number;
  readonly drainedPackets: number;
  readonly ackedBytes: number;
}

/** See `Sender.rates`. */
export interface Rates {
  readonly storedPacketsPerSecond: number;
  readonly drainedPacketsPerSecond: number;
  readonly ackedBytesPerSecond: number;
}

export class RateMeter {
  readonly #samples: { readonly atMs: number; readonly counters: Counters }[] = [];

  /** Takes a sample; to be called about once a second. */
  sample(nowMs: number, counters: Counters): void {
    this.#samples.push({ atMs: nowMs, counters });
    while (nowMs - (this.#samples[0]?.atMs ?? nowMs) > WINDOW_MS) this.#samples.shift();
  }

  /** From the oldest sample of the last seconds until now. */
  rates(nowMs: number, counters: Counters): Rates {
    const past = this.#samples[0];
    const elapsedMs = nowMs - (past?.atMs ?? nowMs);
    const perSecond = (name: keyof Counters) =>
      past === undefined || elapsedMs <= 0
        ? 0
        : Math.max(0, 1000 * (counters[name] - past.counters[name]) / elapsedMs);
    return {
      storedPacketsPerSecond: perSecond("storedPackets"),
      drainedPacketsPerSecond: perSecond("drainedPackets"),
      ackedBytesPerSecond: perSecond("ackedBytes"),
    };
  }
}

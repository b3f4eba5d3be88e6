/** So many different failures of one outage are told once each. */
const MAX_TOLD = 16;

/** The failed attempts of one outage: one line an outage is news, one line a second is noise. */
export class ToldFailures {
  readonly #told = new Set<string>();

  /** How loudly a failure is said, in these words; the same again is for developers. */
  levelOf(words: string): "warn" | "debug" {
    const level = this.#told.has(words) ? "debug" : "warn";
    if (this.#told.size >= MAX_TOLD) this.#told.clear();
    this.#told.add(words);
    return level;
  }

  /** The outage is over. */
  forget(): void {
    this.#told.clear();
  }
}

/** Callbacks that want to hear of something. */
export class Listeners<Args extends unknown[]> {
  readonly #callbacks = new Set<(...args: Args) => void>();

  /** Adds one. Returns its removal. */
  add(callback: (...args: Args) => void): () => void {
    this.#callbacks.add(callback);
    return () => void this.#callbacks.delete(callback);
  }

  /**
   * Calls all. One that throws must not look like a failed commit, nor keep the
   * others from hearing: its error is reported as uncaught.
   */
  call(...args: Args): void {
    for (const callback of this.#callbacks) {
      try {
        callback(...args);
      } catch (error) {
        reportError(error);
      }
    }
  }
}

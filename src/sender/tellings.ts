/**
 * Which errors a sender's user was told. An error that ends a sender reaches them once:
 * where nobody was told it, the sender's disposal throws it, and else it does not.
 */
export class Tellings {
  readonly #times = new WeakMap<Error, number>();

  /** To be called with an error on its way to the user, by a rejection or a status. */
  tell<T>(error: T): T {
    if (error instanceof Error) this.#times.set(error, (this.#times.get(error) ?? 0) + 1);
    return error;
  }

  /** Who was told it stands between the sender and its user, and has not passed it on. */
  keptBack(error: unknown): void {
    const times = this.#timesOf(error);
    if (error instanceof Error && times > 0) this.#times.set(error, times - 1);
  }

  /** Whether the user was told this error. */
  knows(error: unknown): boolean {
    return this.#timesOf(error) > 0;
  }

  #timesOf(error: unknown): number {
    return error instanceof Error ? this.#times.get(error) ?? 0 : 0;
  }
}

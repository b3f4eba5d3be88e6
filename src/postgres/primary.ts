/**
 * Which server is the primary, as far as the connections of one queue have found out
 * together.
 *
 * A connection to a machine that has died says nothing, for as long as an answer may take.
 * When another one has found a primary by then, of a newer timeline, it need not be waited
 * for: whatever the old primary would still say is of a past that is over.
 *
 * @module
 */

/** What is known of the primary. */
export class Primary {
  /** Which server is asked first. */
  first = 0;
  /** The last one that was found, and its timeline: eight hexadecimal digits. */
  #last: { readonly index: number; readonly timeline: string } | undefined;
  readonly #onMoved = new Set<() => void>();

  /**
   * Calls back each time when another server has become the primary. Returns the
   * unsubscription.
   */
  subscribe(onMoved: () => void): () => void {
    this.#onMoved.add(onMoved);
    return () => void this.#onMoved.delete(onMoved);
  }

  /**
   * Notes that a server was found to be one.
   *
   * @param index Which one.
   * @param timeline Its timeline, which grows with each promotion: the first eight characters
   *   of the name of its file of the log.
   */
  found(index: number, timeline: string): void {
    const last = this.#last;
    // An old one that does not know yet that it was replaced.
    if (last !== undefined && timeline < last.timeline) return;
    this.first = index;
    this.#last = { index, timeline };
    if (last === undefined || timeline === last.timeline || index === last.index) return;
    for (const onMoved of [...this.#onMoved]) onMoved();
  }
}

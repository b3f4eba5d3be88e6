/**
 * Which server is the primary, as far as the connections of one queue have found out
 * together.
 *
 * A connection to a machine that has died says nothing, for as long as an answer may take.
 * When another one has found a primary by then, of a newer timeline, it need not be waited
 * for: whatever the old primary would still say is of a past that is over. Nor is one of an
 * older timeline used that does not know yet that it was replaced, even while the newer one
 * cannot be reached. Only when that one has been looked for many times was the database
 * restored to an earlier state, and has the older timeline indeed.
 */

/**
 * So many whole rounds through the servers without a newer one, and an older one counts. They
 * take 20 seconds at least: longer than servers are away that start again or are replaced.
 */
export const OLDER_ROUNDS = 100;

export class Primary {
  /** Which server is asked first. */
  first = 0;
  /** The last one that was found, and its timeline: eight hexadecimal digits. */
  #last: { readonly index: number; readonly timeline: string } | undefined;
  #answers = 0;
  readonly #onMoved = new Set<() => void>();

  /**
   * Calls back each time when another server has become the primary. Returns the
   * unsubscription.
   */
  subscribe(onMoved: () => void): () => void {
    this.#onMoved.add(onMoved);
    return () => void this.#onMoved.delete(onMoved);
  }

  /** Its timeline: eight hexadecimal digits; `undefined`: none was found yet. */
  get timeline(): string | undefined {
    return this.#last?.timeline;
  }

  /** Changes whenever it has answered a connection: then it is there. */
  get answers(): number {
    return this.#answers;
  }

  /** Notes that a server has answered. */
  answered(index: number): void {
    if (index === this.#last?.index) this.#answers++;
  }

  /**
   * Notes that a server was found to be one.
   *
   * @param timeline Its timeline, which grows with each promotion: the first eight characters
   *   of the name of its file of the log.
   * @param rounds In how many whole rounds through the servers only older ones were found.
   * @returns Whether it may be used: not an old one that does not know yet that it was replaced.
   */
  found(index: number, timeline: string, rounds = 0): boolean {
    const last = this.#last;
    if (last !== undefined && timeline < last.timeline && rounds < OLDER_ROUNDS) return false;
    this.first = index;
    this.#last = { index, timeline };
    this.#answers++;
    if (last !== undefined && timeline !== last.timeline && index !== last.index) {
      for (const onMoved of [...this.#onMoved]) onMoved();
    }
    return true;
  }
}

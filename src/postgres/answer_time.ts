/**
 * How long an answer is waited for: long enough that every question gets through some day, and
 * no longer than is needed to notice a connection that has died.
 *
 * What is given up is lost work: the question has to be sent once more, and the server does not
 * finish what nobody waits for. So a question of many bytes has the time that they take on the
 * path, as far as it is known, and one that was given up has twice the time when it is asked
 * again. The path is known by the questions that were answered: a slow one is learnt once.
 */

/** A path that nothing is known of, and the most that is supposed of any. */
const HIGHEST_BYTES_PER_MS = 1024 ** 2 / 1000;
/** The least: a wait for a standby is not the path's fault, and looks the same. */
const LOWEST_BYTES_PER_MS = 4096 / 1000;
/** No answer is waited for longer, unless that was asked for. */
const LONGEST_MS = 3_600_000;

/** What one connection after the other has taught of the way to a database. */
export class AnswerTime {
  /** What a question without bytes may take at first. */
  readonly shortestMs: number;
  readonly #longestMs: number;
  #bytesPerMs = HIGHEST_BYTES_PER_MS;
  /** How often in a row a question was given up, by its SQL, of which there are a few. */
  readonly #givenUp = new Map<string, number>();

  /** @param longestMs What any question may take, however often it was given up. */
  constructor(shortestMs: number, longestMs: number = LONGEST_MS) {
    this.shortestMs = shortestMs;
    this.#longestMs = Math.max(longestMs, shortestMs);
  }

  /** How long the answer to a question is waited for that so many bytes travel with. */
  allowedMs(text: string, bytes: number): number {
    const times = this.#givenUp.get(text) ?? 0;
    const allowedMs = (this.shortestMs + bytes / this.#bytesPerMs) * 2 ** times;
    return Math.min(allowedMs, this.#longestMs);
  }

  /** Notes that a question was answered, after so long. */
  answered(text: string, bytes: number, tookMs: number): void {
    this.#givenUp.delete(text);
    // It had the time anyway, and says nothing of the path.
    if (bytes <= LOWEST_BYTES_PER_MS * this.shortestMs) return;
    const bytesPerMs = bytes / Math.max(1, tookMs);
    if (bytesPerMs <= this.#bytesPerMs && tookMs <= this.shortestMs / 2) return;
    this.#bytesPerMs = Math.min(HIGHEST_BYTES_PER_MS, Math.max(LOWEST_BYTES_PER_MS, bytesPerMs));
  }

  /** Notes that a question was given up: it has twice the time when it is asked again. */
  gaveUp(text: string): void {
    this.#givenUp.set(text, (this.#givenUp.get(text) ?? 0) + 1);
  }
}

/** How many bytes the arguments of a question are on the wire, but for those of numbers. */
export function wireBytesOf(args: readonly unknown[]): number {
  let bytes = 0;
  for (const arg of args) {
    if (typeof arg === "string") bytes += arg.length;
    // As hexadecimal digits.
    else if (arg instanceof Uint8Array) bytes += 2 * arg.length;
  }
  return bytes;
}

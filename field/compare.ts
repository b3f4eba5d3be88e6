/**
 * Compares what was sent with what a server has written down.
 *
 * @module
 */

/** What a server's own output says of the packets 0 to `sent` - 1. */
export interface Comparison {
  readonly lost: readonly number[];
  readonly duplicated: number;
  /** Packets that came, for the first time, behind a later one. */
  readonly outOfOrder: number;
  /** Lines that are no packet, and packets that nobody has sent. */
  readonly strange: readonly string[];
}

/**
 * Reads the output.
 *
 * @param line What each of its lines looks like, with the number in its first group;
 *   `undefined` where it says other things as well: then each token in it counts.
 * @param isRefused Packets that the server does not want; one of them is strange.
 */
export function compare(
  output: string,
  sent: number,
  line: RegExp | undefined,
  isRefused: (number: number) => boolean = () => false,
): Comparison {
  const strange: string[] = [];
  const numbers: number[] = [];
  if (line === undefined) {
    for (const [, digits] of output.matchAll(/m(\d{6})z/g)) numbers.push(Number(digits));
  } else {
    for (const text of output.split("\n").map((text) => text.trim())) {
      const digits = line.exec(text)?.[1];
      if (digits !== undefined) numbers.push(Number(digits));
      else if (text !== "") strange.push(text.slice(0, 200));
    }
  }
  const seen = new Set<number>();
  let duplicated = 0, outOfOrder = 0, newest = -1;
  for (const number of numbers) {
    if (number >= sent || isRefused(number)) strange.push(`number ${number}`);
    else if (seen.has(number)) duplicated++;
    else {
      seen.add(number);
      if (number < newest) outOfOrder++;
      else newest = number;
    }
  }
  const lost = Array.from({ length: sent }, (_, number) => number)
    .filter((number) => !seen.has(number) && !isRefused(number));
  return { lost, duplicated, outOfOrder, strange };
}

import type { IdRange } from "./types.ts";

/** The same ids as ranges in ascending order, no id twice. Ranges without an id are left out. */
export function mergeRanges(ranges: readonly IdRange[]): IdRange[] {
  const merged: IdRange[] = [];
  for (const range of ranges.toSorted((a, b) => a.firstId - b.firstId)) {
    if (range.lastId < range.firstId) continue;
    const before = merged.at(-1);
    if (before !== undefined && range.firstId <= before.lastId + 1) {
      const lastId = Math.max(before.lastId, range.lastId);
      merged[merged.length - 1] = { firstId: before.firstId, lastId };
    } else merged.push(range);
  }
  return merged;
}

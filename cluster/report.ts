/**
 * The ring's table, for people: in Markdown, as docs/CLUSTER.md has it.
 *
 * @module
 */

import { formatColumns } from "../lab/report.ts";
import type { Row } from "./outcome.ts";

const COLUMNS: readonly (readonly [title: string, cell: (row: Row) => string])[] = [
  ["scenario", (row) => row.scenario],
  ["what happens", (row) => row.title],
  ["runs", (row) => String(row.runs)],
  ["acknowledged", (row) => String(row.acknowledged)],
  ["lost", (row) => String(row.lost)],
  ["stored twice", (row) => String(row.storedTwice)],
  ["out of order", (row) => String(row.outOfOrder)],
  ["duplicates", (row) => String(row.duplicates)],
  ["refused", (row) => String(row.refused)],
  ["storing s", (row) => row.storingSeconds.toFixed(1)],
  ["failover s", failoverOf],
  ["result", (row) => passed(row) ? "ok" : `FAILED: ${row.failures.join("; ")}`],
];

/** What the columns mean. */
export const LEGEND = `acknowledged: packets, of all runs together
lost, stored twice, out of order (within one connection): packets; the worst of all runs
duplicates: packets that the server read again after a failover; the worst of all runs
refused: packets for which the database was away too long, which is certain not to have them
storing: the longest time after the fault in which nothing was acknowledged, or nothing by the
  file of one edge; median
failover: the longest time after the fault in which the server read nothing, or nothing of one
  edge; median, and of several runs the shortest and the longest`;

/** The table. */
export function formatTable(rows: readonly Row[]): string {
  return formatColumns(COLUMNS, rows);
}

function failoverOf(row: Row): string {
  const { runs, failoverSeconds, leastFailoverSeconds, mostFailoverSeconds } = row;
  const median = failoverSeconds.toFixed(1);
  if (runs < 2) return median;
  return `${median} (${leastFailoverSeconds.toFixed(1)} to ${mostFailoverSeconds.toFixed(1)})`;
}

/** Whether nothing of a row went against the expectations. */
export function passed(row: Row): boolean {
  return row.failures.length === 0;
}

/**
 * The laboratory's table, for people.
 *
 * @module
 */

import type { Row } from "./outcome.ts";

const COLUMNS: readonly (readonly [title: string, cell: (row: Row) => string])[] = [
  ["scenario", (row) => row.scenario],
  ["what happens", (row) => row.title],
  ["sent", (row) => String(row.sent)],
  ["lost", (row) => String(row.lost)],
  ["duplicated", (row) => String(row.duplicated)],
  ["at most", (row) => String(row.duplicatesBound)],
  ["out of order", (row) => String(row.outOfOrder)],
  ["connections", (row) => String(row.connections)],
  ["noticed s", (row) => seconds(row.noticedSeconds)],
  ["verdict", (row) => row.verdict ?? "–"],
  ["delivered s", (row) => seconds(row.deliveredSeconds)],
  ["result", resultOf],
];

/** What the columns mean. */
export const LEGEND = `sent, lost, duplicated: packets; the worst of all runs
at most: packets that were in flight or held when a connection or the sender ended
out of order: packets out of order, skipped or twice within one connection
noticed: from the fault to the first verdict; median
delivered: from the heal until the server had read all that was sent before; median`;

/** The table in Markdown. */
export function formatTable(rows: readonly Row[]): string {
  return formatColumns(COLUMNS, rows);
}

/**
 * A table in Markdown, with columns of one width.
 *
 * @param columns Each with its title, and what it shows of a row.
 * @param rows What is shown.
 */
export function formatColumns<R>(
  columns: readonly (readonly [title: string, cell: (row: R) => string])[],
  rows: readonly R[],
): string {
  const cells = [
    columns.map(([title]) => title),
    ...rows.map((row) => columns.map(([, cell]) => cell(row))),
  ];
  const widths = columns.map((_, column) => Math.max(...cells.map((row) => width(row[column]))));
  const lines = cells.map((row) => `| ${row.map((cell, i) => pad(cell, widths[i])).join(" | ")} |`);
  lines.splice(1, 0, `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`);
  return lines.join("\n") + "\n";
}

/** Whether nothing of a row went against the expectations. */
export function passed(row: Row): boolean {
  return row.failures.length === 0;
}

function resultOf(row: Row): string {
  if (row.skipped !== undefined) return `skipped: ${row.skipped}`;
  if (!passed(row)) return `FAILED: ${row.failures.join("; ")}`;
  return row.lossExpected ? "loss, as expected" : "ok";
}

function seconds(value: number | undefined): string {
  return value === undefined ? "–" : value.toFixed(2);
}

function width(text = ""): number {
  return [...text].length;
}

function pad(text: string, columns = 0): string {
  return text + " ".repeat(columns - width(text));
}

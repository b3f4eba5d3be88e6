/**
 * What the benchmark has measured, as a table.
 *
 * @module
 */

import type { Spread } from "./statistics.ts";

/** One line of the table. */
export interface Figure {
  readonly section: string;
  readonly name: string;
  readonly unit: string;
  readonly value: Spread;
  /** What it is held against, measured in the same round. */
  readonly against?: string;
  readonly ratio?: Spread;
  /** The median of a rate of packets, in bytes. */
  readonly megabytesPerSecond?: number;
  readonly target?: string;
}

/** The figures as a table of Markdown. */
export function tableOf(figures: readonly Figure[]): string {
  const show = ({ median, min, max }: Spread) =>
    min === max ? round3(median) : `${round3(median)} (${round3(min)}–${round3(max)})`;
  const rows = figures.map((figure) => [
    figure.section,
    figure.name,
    `${show(figure.value)} ${figure.unit}`.trim() +
    (figure.megabytesPerSecond === undefined ? "" : `, ${round3(figure.megabytesPerSecond)} MB/s`),
    figure.ratio === undefined ? "" : `${show(figure.ratio)} × ${figure.against}`,
    figure.target ?? "",
  ]);
  rows.unshift(["section", "what", "median (min–max)", "ratio", "target"]);
  const widths = [0, 1, 2, 3, 4].map((i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)));
  rows.splice(1, 0, widths.map((width) => "-".repeat(width)));
  return rows.map((row) => `| ${row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join(" | ")} |`)
    .join("\n");
}

/** In three digits that count. */
export function round3(value: number): string {
  if (!Number.isFinite(value)) return "?";
  if (value >= 1000) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(3)));
}
